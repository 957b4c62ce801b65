// Asks before a form with data-confirm="question" is sent; needs templates/confirm.html on the page.

const dialog = document.getElementById("confirm");
let waiting = null;

document.addEventListener("submit", (event) => {
  const question = event.target.dataset.confirm;
  if (!question) return;
  event.preventDefault();
  waiting = event.target;
  document.getElementById("confirm-text").textContent = question;
  dialog.returnValue = "";
  dialog.showModal();
});

dialog.addEventListener("close", () => {
  if (dialog.returnValue === "yes") waiting?.submit();
  waiting = null;
});
