// Puts a chosen value where the cursor is. Without JavaScript the same button puts it at the end of the text.
(() => {
  "use strict";
  let last = null;
  document.addEventListener("focusout", (event) => {
    if (event.target.matches?.(".block-form textarea, .block-form input[type='text']") && !event.target.closest(".insert")) last = event.target;
  });

  document.addEventListener("click", (event) => {
    const button = event.target.closest?.("[data-insert]");
    if (!button) return;
    const form = button.form;
    const value = form.elements.insert_value;
    const fallback = form.elements.insert_fallback.value.trim();
    const field = last && form.contains(last) ? last : document.getElementById(button.dataset.insert);
    const needs = value.selectedOptions[0]?.dataset.needs === "1";
    // What needs a word of refusal is said by the server.
    if (!value.value || !field || (needs && !fallback) || /[{}%'"\n]/.test(fallback)) return;
    event.preventDefault();
    const text = needs ? `{{ ${value.value} | default: '${fallback}' }}` : `{{ ${value.value} }}`;
    field.setRangeText(text, field.selectionStart ?? field.value.length, field.selectionEnd ?? field.value.length, "end");
    value.value = "";
    form.elements.insert_fallback.value = "";
    field.focus();
  });
})();
