// Steps of models, for model owners: a dialog explains the effect, then a POST takes the step. The
// page shows the new stage once it arrives on the `models` topic.

import { onSite } from "./paths.js";
import { send } from "./send.js";

const WORDS = {
  promote: ["Promote", "It decides for all cards from the next batch on; the present champion stays ready to take over again."],
  canary: ["Make it a canary", "It decides for a share of the cards; the champion decides for the rest."],
  rollback: ["Roll back", "It stops deciding at once. If it is the champion, the one before it serves again."],
};
const dialog = document.getElementById("step");
const form = document.getElementById("step-form");
const problem = document.getElementById("step-problem");

/** Let the buttons in the list of models open the dialog. */
export function listen() {
  document.getElementById("models").addEventListener("click", (event) => {
    const button = event.target.closest("button[data-step]");
    if (button) open(button.closest("li").dataset.model, button.dataset.step);
  });
  document.getElementById("step-cancel").addEventListener("click", () => dialog.close());
}

function open(model, step) {
  const [verb, text] = WORDS[step];
  document.getElementById("step-title").textContent = `${verb}: ${model}`;
  document.getElementById("step-text").textContent = text;
  document.getElementById("step-share-field").hidden = step !== "canary";
  const confirm = document.getElementById("step-confirm");
  confirm.textContent = verb;
  confirm.className = step === "rollback" ? "button danger" : "button primary";
  problem.hidden = true;
  form.onsubmit = async (event) => {
    event.preventDefault();
    confirm.disabled = true;
    try {
      const values = { model_id: model, comment: form.elements.comment.value };
      if (step === "canary") values.share = form.elements.share.value;
      await send(onSite(`/models/${step}`), values);
      form.reset();
      dialog.close();
    } catch (error) {
      problem.textContent = error.message;
      problem.hidden = false;
    } finally {
      confirm.disabled = false;
    }
  };
  dialog.showModal();
}
