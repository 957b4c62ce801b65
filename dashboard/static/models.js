// The dialog in front of each step of a model.

import { onSite } from "./paths.js";

const dialog = document.getElementById("step");
const form = dialog?.querySelector("form");

function ask(button) {
  const { step, model, share, question } = button.dataset;
  form.action = onSite(`/models/${step}`);
  form.elements.model_id.value = model;
  form.elements.comment.value = "";
  form.elements.share.value = share;
  form.elements.share.disabled = step !== "canary";
  document.getElementById("step-share").hidden = step !== "canary";
  document.getElementById("step-question").textContent = question;
  const yes = document.getElementById("step-yes");
  yes.textContent = button.textContent;
  yes.className = `button ${button.classList.contains("danger") ? "danger" : "primary"}`;
  dialog.showModal();
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-step]");
  if (button && dialog) ask(button);
});
document.getElementById("step-cancel")?.addEventListener("click", () => dialog.close());
