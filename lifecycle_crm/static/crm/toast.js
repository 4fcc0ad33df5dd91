// Messages that say what happened. They close after ten seconds, wait while somebody reads them, and errors stay.
(() => {
  "use strict";
  const box = () => document.getElementById("toasts");
  const STAY = 10_000;

  const close = (toast) => {
    const hadFocus = toast.contains(document.activeElement);
    toast.remove();
    if (hadFocus) document.getElementById("main")?.focus();
  };

  const wind = (toast) => {
    if (toast.dataset.wound) return;
    toast.dataset.wound = "1";
    if (toast.classList.contains("error") || toast.hasAttribute("data-stay")) return;
    let timer = 0;
    const stop = () => clearTimeout(timer);
    const start = () => {
      stop();
      timer = setTimeout(() => close(toast), STAY);
    };
    toast.addEventListener("pointerenter", stop);
    toast.addEventListener("pointerleave", start);
    toast.addEventListener("focusin", stop);
    toast.addEventListener("focusout", start);
    start();
  };

  const windAll = () => {
    for (const toast of box()?.querySelectorAll(".toast") ?? []) wind(toast);
  };

  const show = (text, kind = "info") => {
    const template = document.getElementById(`toast-${kind}`) ?? document.getElementById("toast-info");
    if (!template || !text) return;
    const toast = template.content.firstElementChild.cloneNode(true);
    toast.querySelector("p").textContent = text;
    box().append(toast);
    wind(toast);
  };

  document.addEventListener("click", (event) => {
    const button = event.target.closest?.("[data-close-toast]");
    if (button) close(button.closest(".toast"));
  });
  document.addEventListener("htmx:after:swap", windAll);
  document.addEventListener("htmx:response:error", (event) => {
    const status = event.detail?.ctx?.response?.status ?? event.detail?.ctx?.response?.raw?.status ?? 0;
    if (status >= 500) show(box()?.dataset.failed, "error");
  });
  document.addEventListener("htmx:error", () => show(box()?.dataset.offline, "error"));
  document.addEventListener("crm:toast", (event) => show(event.detail?.text, event.detail?.kind));

  // A screen reader speaks only what is added to a live region, so the first messages are added once more.
  const waiting = [...(box()?.children ?? [])];
  if (waiting.length) {
    setTimeout(() => {
      for (const toast of waiting) box().append(toast);
      windAll();
    }, 150);
  }
})();
