// A click on the head of a column sorts by it: numbers by size, the largest first, texts by the alphabet; a third click undoes that.
for (const table of document.querySelectorAll("table")) {
  const body = table.tBodies[0], before = [...body.rows], heads = [...table.tHead.rows[0].cells];
  if (before.length < 2) continue;
  const number = text => /^[+\-−]?[\d.]/.test(text) ? parseFloat(text.replace("−", "-").replace(/,(?=\d{3})/g, "")) : NaN;
  heads.forEach((head, column) => {
    const text = row => row.cells[column].innerText.trim(), button = document.createElement("button");
    button.append(...head.childNodes);
    head.append(button);
    button.onclick = () => {
      const numeric = before.some(row => !isNaN(number(text(row))));
      const [first, second] = numeric ? ["descending", "ascending"] : ["ascending", "descending"];
      const now = head.getAttribute("aria-sort"), next = now === null ? first : now === first ? second : null;
      heads.forEach(other => other.removeAttribute("aria-sort"));
      if (next) head.setAttribute("aria-sort", next);
      const sign = next === "descending" ? -1 : 1;
      const compare = (a, b) => {
        if (!numeric) return sign * text(a).localeCompare(text(b));
        const [x, y] = [number(text(a)), number(text(b))];
        return isNaN(x) || isNaN(y) ? isNaN(x) - isNaN(y) : sign * (x - y);
      };
      body.append(...(next ? [...before].sort(compare) : before));
    };
  });
}

// The contents are open where they stand beside the page; a link opens its part; on paper all parts are open.
const contents = document.querySelector(".contents"), isWide = matchMedia("(min-width: 70rem)");
const arrange = () => { contents.open = isWide.matches; };
isWide.onchange = arrange;
arrange();
const open = id => {
  const part = document.getElementById(id);
  if (part instanceof HTMLDetailsElement) part.open = true;
  if (part) part.scrollIntoView();
};
for (const link of contents.querySelectorAll("a")) link.onclick = event => {
  event.preventDefault();
  history.replaceState(null, "", link.hash);
  if (!isWide.matches) contents.open = false;
  open(link.hash.slice(1));
};
if (location.hash) open(location.hash.slice(1));
onbeforeprint = () => document.querySelectorAll("details.part").forEach(part => { part.open = true; });

// Near a point of a figure a note says its name and value.
const note = document.getElementById("note");
for (const figure of document.querySelectorAll("svg[data-notes]")) {
  const notes = JSON.parse(figure.dataset.notes);
  figure.onpointermove = event => {
    const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(figure.getScreenCTM().inverse());
    const far = ([x, y]) => Math.hypot(x - at.x, y - at.y), nearest = notes.reduce((a, b) => far(a) <= far(b) ? a : b);
    note.hidden = far(nearest) > 14;
    note.textContent = nearest[2];
    note.style.left = `${Math.min(event.clientX + 12, innerWidth - note.offsetWidth - 8)}px`;
    note.style.top = `${event.clientY + 14}px`;
  };
  figure.onpointerleave = () => { note.hidden = true; };
}

// A click on a label of a hierarchy shows what is below it as wide as the figure; another click on it shows all again.
for (const figure of document.querySelectorAll(".icicle")) {
  const wide = figure.viewBox.baseVal.width, labels = [...figure.querySelectorAll("g:not(.bar)")].map(group => {
    const box = group.querySelector("rect"), of = name => parseFloat(box.getAttribute(name));
    const name = group.querySelector("title").textContent.replace(/: (F1|neither)[^:]*$/, "");
    return { group, box, name, x: of("x"), y: of("y"), width: of("width") };
  });
  const show = (from, width) => {
    for (const label of labels) {
      const x = (label.x - from) * wide / width, start = Math.max(0, x), end = Math.min(wide, x + label.width * wide / width);
      const fits = Math.floor((end - start) / 6.2);
      label.box.setAttribute("x", start);
      label.box.setAttribute("width", Math.max(0, end - start));
      label.group.querySelector("text")?.remove();
      if (end - start < 45) continue;
      const text = document.createElementNS(figure.namespaceURI, "text");
      text.setAttribute("x", (start + end) / 2);
      text.setAttribute("y", label.y + 20);
      text.textContent = label.name.length <= fits ? label.name : label.name.slice(0, fits - 1) + "…";
      label.group.append(text);
    }
  };
  let chosen = null;
  for (const label of labels) label.group.onclick = () => {
    chosen = chosen === label ? null : label;
    chosen ? show(label.x, label.width) : show(0, wide);
  };
}
