// Shortcuts. Single letters never fire while a field has focus, and `data-shortcuts="off"` on <html> turns them off.
// Arrow keys are left alone: screen readers use them.
(() => {
  "use strict";
  const root = document.documentElement;
  const GO = {}; // filled from links that carry data-go="h": only pages that exist have one
  let waiting = 0;

  const typing = (node) =>
    node && (node.isContentEditable || /^(INPUT|SELECT|TEXTAREA)$/.test(node.tagName) || node.closest("dialog"));
  const first = (selector) => [...document.querySelectorAll(selector)].find((node) => node.checkVisibility?.() ?? true);
  const press = (selector) => {
    const node = first(selector);
    if (!node) return false;
    node.click();
    return true;
  };
  const rows = () =>
    [...document.querySelectorAll("[data-rows] > *")].filter(
      (row) => row.querySelector("a[href]") && !row.closest("figure, details:not([open])"),
    );
  const current = (list) => list.findIndex((row) => row.contains(document.activeElement));
  const move = (step) => {
    const list = rows();
    if (!list.length) return false;
    const at = current(list);
    const next = at < 0 ? (step > 0 ? 0 : list.length - 1) : Math.min(Math.max(at + step, 0), list.length - 1);
    list[next].querySelector("a[href]").focus();
    return true;
  };
  const select = () => {
    const list = rows();
    const box = list[current(list)]?.querySelector('input[type="checkbox"]');
    if (!box) return false;
    box.click();
    return true;
  };
  const search = () => {
    const field = first("#search");
    if (!field) return false;
    field.focus();
    field.select();
    return true;
  };
  const help = () => {
    const dialog = document.getElementById("shortcuts");
    if (!dialog || dialog.open) return false;
    dialog.showModal();
    return true;
  };

  const actions = {
    "/": search,
    "?": help,
    j: () => move(1),
    k: () => move(-1),
    x: select,
    n: () => press("[data-key='n']"),
    e: () => press("[data-key='e']"),
    u: () => press("[data-key='u']"),
    p: () => press("[data-key='p']"),
    c: () => press("[data-key='c']"),
    r: () => press("[data-key='r']"),
    "[": () => press("[data-key='[']"),
    "]": () => press("[data-key=']']"),
    g: () => {
      waiting = Date.now();
      return true;
    },
  };

  document.addEventListener("keydown", (event) => {
    if (event.defaultPrevented || event.altKey || event.isComposing) return;
    if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "k") {
      if (search()) event.preventDefault();
      return;
    }
    if (event.ctrlKey || event.metaKey) return;
    if (root.dataset.shortcuts === "off" || typing(document.activeElement)) return;
    if (waiting && Date.now() - waiting < 1500) {
      waiting = 0;
      for (const link of document.querySelectorAll("[data-go]")) GO[link.dataset.go] = link.href;
      if (GO[event.key]) {
        event.preventDefault();
        location.assign(GO[event.key]);
      }
      return;
    }
    waiting = 0;
    if (actions[event.key]?.()) event.preventDefault();
  });
})();
