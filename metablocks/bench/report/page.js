"use strict";
(function () {
  const table = document.getElementById("table");
  const body = table.tBodies[0];
  const heads = Array.from(table.tHead.rows[0].cells);
  const first = Array.from(body.rows);
  const place = new Map(first.map((row, index) => [row, index]));

  const keyOf = (row, index) => {
    const text = row.cells[index].getAttribute("data-key");
    if (text === null) return null;
    return heads[index].dataset.kind === "number" ? Number(text) : text;
  };

  // Failed rows and empty cells stay below, whichever way the rest is sorted; equal rows keep the order of the file.
  const compare = (index, way) => {
    const keys = new Map(first.map((row) => [row, keyOf(row, index)]));
    const number = heads[index].dataset.kind === "number";
    const words = new Intl.Collator("en", { numeric: true });
    return (one, other) => {
      const failed = one.hasAttribute("data-failed") - other.hasAttribute("data-failed");
      if (failed) return failed;
      const a = keys.get(one), b = keys.get(other);
      if (a === null || b === null) return (a === null) - (b === null) || place.get(one) - place.get(other);
      const found = number ? a - b : words.compare(a, b);
      return found ? way * found : place.get(one) - place.get(other);
    };
  };

  const sort = (head) => {
    const now = head.getAttribute("aria-sort");
    // the first press shows what is largest, or what comes first in the alphabet
    const start = head.dataset.kind === "number" ? "descending" : "ascending";
    const back = start === "descending" ? "ascending" : "descending";
    const next = now === start ? back : start;
    heads.forEach((one) => one.setAttribute("aria-sort", one === head ? next : "none"));
    const sorted = first.slice().sort(compare(heads.indexOf(head), next === "ascending" ? 1 : -1));
    body.append(...sorted);
  };
  heads.forEach((head) => head.firstElementChild.addEventListener("click", () => sort(head)));

  const filter = document.getElementById("filter");
  filter.addEventListener("input", () => {
    const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    let found = 0;
    first.forEach((row) => {
      const text = row.textContent.toLowerCase();
      row.hidden = !words.every((word) => text.includes(word));
      found += row.hidden ? 0 : 1;
    });
    document.getElementById("found").textContent = words.length ? found + " of " + first.length : "";
  });

  // On paper nothing can be unfolded, and a warning belongs to its row.
  let folded = [];
  window.addEventListener("beforeprint", () => {
    folded = Array.from(document.querySelectorAll("td details:not([open])"));
    folded.forEach((one) => { one.open = true; });
  });
  window.addEventListener("afterprint", () => folded.forEach((one) => { one.open = false; }));
})();
