// Dialogs, menus, copy buttons, and where the focus goes. Everything here works as a plain page without JavaScript.
(() => {
  "use strict";
  const openers = new WeakMap();

  const open = (dialog, opener) => {
    if (!dialog || dialog.open) return;
    if (opener) openers.set(dialog, opener);
    dialog.showModal();
  };

  document.addEventListener("click", (event) => {
    const target = event.target;
    if (!(target instanceof Element)) return;

    const opener = target.closest("[data-dialog]");
    if (opener) {
      const dialog = document.getElementById(opener.dataset.dialog);
      if (dialog) {
        event.preventDefault();
        open(dialog, opener);
      }
      return;
    }
    const closer = target.closest("[data-close]");
    if (closer) {
      event.preventDefault();
      closer.closest("dialog")?.close();
      return;
    }
    if (target instanceof HTMLDialogElement && target.open) {
      const box = target.getBoundingClientRect();
      const inside =
        event.clientX >= box.left && event.clientX <= box.right && event.clientY >= box.top && event.clientY <= box.bottom;
      if (!inside && event.detail) target.close();
    }
    for (const menu of document.querySelectorAll("details.menu[open]")) {
      if (!menu.contains(target)) menu.open = false;
    }

    const copier = target.closest("[data-copy]");
    if (copier) {
      const field = document.getElementById(copier.dataset.copy);
      const said = document.getElementById(`${copier.dataset.copy}-said`);
      field.select?.();
      navigator.clipboard?.writeText(field.value ?? field.textContent).then(() => {
        if (said) said.textContent = copier.dataset.copied || "";
      });
    }
  });

  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    const menu = document.activeElement?.closest?.("details.menu[open]");
    if (!menu) return;
    menu.open = false;
    menu.querySelector("summary").focus();
  });

  document.addEventListener(
    "close",
    (event) => {
      const dialog = event.target;
      if (!(dialog instanceof HTMLDialogElement)) return;
      const opener = openers.get(dialog);
      if (opener?.isConnected) opener.focus();
      if (dialog.hasAttribute("data-once")) dialog.remove();
    },
    true, // "close" does not bubble
  );

  // A dialog that the server sent opens itself; the control that asked for it gets the focus back.
  document.addEventListener("htmx:after:swap", (event) => {
    const opener = event.target instanceof Element ? event.target : null;
    for (const dialog of document.querySelectorAll("dialog[data-open]:not([open])")) {
      dialog.removeAttribute("data-open");
      open(dialog, opener);
    }
    const wanted = document.querySelector("[data-focus-after]");
    if (wanted) {
      wanted.removeAttribute("data-focus-after");
      wanted.focus();
    }
    document.querySelector(".error-summary[data-new]")?.focus();
  });

  // A form is sent once: its button keeps its width and waits.
  document.addEventListener("submit", (event) => {
    const form = event.target;
    if ((form.getAttribute("method") || "get").toLowerCase() === "get" || form.hasAttribute("data-many")) return;
    if (form.dataset.sent && Date.now() - Number(form.dataset.sent) < 3000) {
      event.preventDefault();
      return;
    }
    form.dataset.sent = String(Date.now());
    event.submitter?.setAttribute("aria-busy", "true");
  });
  const rested = () => {
    for (const form of document.querySelectorAll("form[data-sent]")) {
      delete form.dataset.sent;
      form.querySelector('[aria-busy="true"]')?.removeAttribute("aria-busy");
    }
  };
  document.addEventListener("htmx:after:request", rested);
  addEventListener("pageshow", rested);

  // Confirm by typing: the button opens when the field holds the word or number that it asks for.
  document.addEventListener("input", (event) => {
    const field = event.target;
    if (!field.dataset?.mustEqual) return;
    const button = document.getElementById(field.dataset.unlocks);
    if (button) button.disabled = field.value.trim() !== field.dataset.mustEqual;
  });

  // "Select all on this page" in a table head.
  document.addEventListener("change", (event) => {
    const box = event.target;
    if (!box.matches?.("[data-select-all]")) return;
    for (const other of box.closest("table").querySelectorAll('tbody input[type="checkbox"]')) {
      if (other.checked !== box.checked) other.click();
    }
  });

  document.querySelector(".error-summary")?.focus();
})();
