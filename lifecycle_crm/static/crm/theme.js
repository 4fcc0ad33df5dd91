// Loaded before the first paint, so that a dark page never flashes white. Also marks that JavaScript runs.
(() => {
  "use strict";
  const root = document.documentElement;
  const KEY = "crm-theme";
  const read = () => {
    try {
      return localStorage.getItem(KEY) || "system";
    } catch {
      return "system"; // storage is off in this browser: the system's choice holds
    }
  };
  const apply = (theme) => {
    if (theme === "light" || theme === "dark") root.dataset.theme = theme;
    else delete root.dataset.theme;
    for (const button of document.querySelectorAll("[data-set-theme]")) {
      button.setAttribute("aria-pressed", String(button.dataset.setTheme === theme));
    }
    document.dispatchEvent(new CustomEvent("crm:theme"));
  };

  root.classList.add("js");
  apply(read());

  document.addEventListener("DOMContentLoaded", () => apply(read()));
  document.addEventListener("click", (event) => {
    const button = event.target.closest?.("[data-set-theme]");
    if (!button) return;
    try {
      localStorage.setItem(KEY, button.dataset.setTheme);
    } catch {
      // Not stored, but applied until the next page.
    }
    apply(button.dataset.setTheme);
  });
  addEventListener("storage", (event) => event.key === KEY && apply(read()));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => apply(read()));
})();
