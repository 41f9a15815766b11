// The tables: sorting of the main one; filter, sorting and saving of the table of all results.

function compare(first, second) {
  if (first === second) return 0;
  if (first === null || first === "") return 1; // missing values are last in both directions
  if (second === null || second === "") return -1;
  return typeof first === "number" ? first - second : first.localeCompare(second, LANGUAGE, { numeric: true });
}

const directed = (first, second, descending) =>
  [first, second].some((value) => value === null || value === "") || !descending
    ? compare(first, second)
    : compare(second, first);

// Makes headings buttons that sort: the first click on a number sorts it in descending order.
function sortable(headings, numeric, sort) {
  headings.forEach((heading, place) => {
    const button = element("button", { type: "button" }, heading.textContent);
    heading.replaceChildren(button);
    heading.setAttribute("aria-sort", "none");
    button.addEventListener("click", () => {
      const before = heading.getAttribute("aria-sort");
      const descending = before === "none" ? numeric(place) : before === "ascending";
      headings.forEach((other) => other.setAttribute("aria-sort", "none"));
      heading.setAttribute("aria-sort", descending ? "descending" : "ascending");
      sort(place, descending);
    });
  });
}

for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const value = (row, place) => {
    const cell = row.cells[place];
    if (cell.dataset.value === undefined) return cell.textContent;
    return cell.dataset.value === "" ? null : Number(cell.dataset.value);
  };
  sortable([...table.tHead.rows[0].cells], (place) => place > 0, (place, descending) => {
    const rows = [...body.rows];
    rows.sort((first, second) => directed(value(first, place), value(second, place), descending));
    body.append(...rows);
  });
}

const PAGE = 50;

function resultsTable(columns) {
  const section = document.getElementById("results");
  const [controls, frame] = [section.querySelector(".controls"), section.querySelector(".scroll")];
  const cell = (column, row) =>
    column.levels ? (column.codes[row] < 0 ? null : column.levels[column.codes[row]]) : column.values[row];
  const count = columns.length ? (columns[0].codes || columns[0].values).length : 0;
  const texts = Array.from({ length: count }, (_, row) =>
    columns.map((column) => (column.levels || column.name === "seed" ? `${column.name} ${cell(column, row) ?? ""}` : ""))
      .join(" ").toLowerCase());
  const number = (value) => String(value).replace(".", DECIMAL);
  const shown = (value) => {
    if (typeof value !== "number") return value ?? "";
    return number(Number.isInteger(value) ? value : Number(value.toPrecision(4)));
  };
  const headings = columns.map((column) =>
    element("th", { scope: "col", class: column.levels ? "words" : "" }, column.name));
  const body = element("tbody");
  const search = element("input", { type: "search", size: "34", placeholder: _("for example: byol test accuracy") });
  const state = element("span", { role: "status" });
  const more = element("button", { type: "button" }, _("More rows"));
  const save = element("button", { type: "button" }, _("Save these rows as CSV"));
  let order = Array.from({ length: count }, (_, row) => row);
  let kept = order;
  let limit = PAGE;

  function show() {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    kept = order.filter((row) => words.every((word) => texts[row].includes(word)));
    body.replaceChildren(...kept.slice(0, limit).map((row) => element("tr", {}, ...columns.map((column) => {
      const value = cell(column, row);
      const made = column === columns[0] ? element("th", { scope: "row" }, shown(value))
        : element("td", column.levels ? { class: "words" } : {}, shown(value));
      if (typeof value === "number") made.title = number(value);
      return made;
    }))));
    const counts = { shown: Math.min(limit, kept.length), matching: kept.length, count };
    state.textContent = _("{shown} of {matching} matching rows, {count} in all", counts);
    more.hidden = kept.length <= limit;
  }

  search.addEventListener("input", () => { limit = PAGE; show(); });
  more.addEventListener("click", () => { limit += 4 * PAGE; show(); });
  save.addEventListener("click", () => {
    const quoted = (value) => (/[",\n]/.test(value) ? `"${value.replaceAll('"', '""')}"` : value);
    const lines = [columns.map((column) => column.name), ...kept.map((row) => columns.map((column) => cell(column, row)))];
    const csv = lines.map((line) => line.map((value) => quoted(String(value ?? ""))).join(",")).join("\n") + "\n";
    const link = element("a", { href: URL.createObjectURL(new Blob([csv], { type: "text/csv" })), download: "rows.csv" });
    link.click();
    URL.revokeObjectURL(link.href);
  });
  sortable(headings, (place) => !columns[place].levels, (place, descending) => {
    const column = columns[place];
    order = [...order].sort((first, second) => directed(cell(column, first), cell(column, second), descending));
    show();
  });
  controls.replaceChildren(element("label", {}, _("Filter"), search), state, save);
  frame.replaceChildren(element("table", {}, element("thead", {}, element("tr", {}, ...headings)), body));
  frame.after(element("div", { class: "controls" }, more));
  show();
}
