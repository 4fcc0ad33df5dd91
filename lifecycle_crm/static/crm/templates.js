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

// Counts what an SMS takes while it is typed, with the alphabet that the page brings. What values add is said by the preview.
(() => {
  "use strict";
  const field = document.querySelector("textarea[data-parts]");
  const out = field && document.getElementById(field.dataset.parts);
  if (!out) return;
  const basic = new Set(field.dataset.basic);
  const extension = new Set(field.dataset.extension);

  function count() {
    const text = field.value.replace(/\{\{.*?\}\}|\{%.*?%\}/gs, "").trim();
    const signs = [...text];
    const outside = [...new Set(signs.filter((one) => !basic.has(one) && !extension.has(one)))];
    const [single, several] = outside.length ? [70, 67] : [160, 153];
    const sizes = signs.map((one) => (outside.length ? one.length : extension.has(one) ? 2 : 1));
    const places = sizes.reduce((sum, one) => sum + one, 0);
    let parts = 1;
    let used = 0;
    if (places > single) {
      for (const size of sizes) {
        if (used + size > several) { parts += 1; used = 0; }
        used += size;
      }
    }
    const said = out.dataset.said.replace("PARTS", parts).replace("PLACES", places).replace("ALPHABET", outside.length ? "UCS-2" : "GSM-7");
    out.textContent = outside.length ? `${said} ${out.dataset.outside.replace("SIGNS", outside.slice(0, 8).join(" "))}` : said;
    out.hidden = false;
  }

  field.addEventListener("input", count);
  count();
})();
