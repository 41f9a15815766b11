// The language of the page, reading of its packed parts, and the light and dark colours.
const LANGUAGE = document.documentElement.lang;
const WORDS = JSON.parse(document.getElementById("words").textContent); // texts of the script in this language
const [DECIMAL, THOUSANDS] = [(0.5).toLocaleString(LANGUAGE)[1], (10000).toLocaleString(LANGUAGE)[2]];

// A text in the language of the page, with the values of its fields `{name}`.
const _ = (text, values = {}) => (WORDS[text] ?? text).replace(/\{(\w+)\}/g, (field, name) => values[name]);

function bytes(base64) {
  const text = atob(base64);
  const made = new Uint8Array(text.length);
  for (let place = 0; place < text.length; place++) made[place] = text.charCodeAt(place);
  return made;
}

async function unpacked(id) {
  const stream = new Blob([bytes(document.getElementById(id).textContent)]).stream();
  return new Response(stream.pipeThrough(new DecompressionStream("gzip"))).text();
}

const ARRAYS = { i1: Int8Array, u1: Uint8Array, i2: Int16Array, u2: Uint16Array, i4: Int32Array, u4: Uint32Array };
const array = (spec) => new ARRAYS[spec.dtype](bytes(spec.bdata).buffer);

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

const painted = () => new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve)));

// Light and dark
const system = matchMedia("(prefers-color-scheme: dark)");
const dark = () => (document.documentElement.dataset.theme || (system.matches ? "dark" : "light")) === "dark";
const themeButton = document.getElementById("theme");
const drawn = new Map(); // the figures that are drawn, each with a function that draws it again

function themeChanged() {
  themeButton.textContent = dark() ? _("Light") : _("Dark");
  themeButton.setAttribute("aria-label", dark() ? _("Switch to light colours") : _("Switch to dark colours"));
  for (const draw of drawn.values()) draw();
}

themeButton.addEventListener("click", () => {
  document.documentElement.dataset.theme = dark() ? "light" : "dark";
  try { localStorage.setItem("theme", document.documentElement.dataset.theme); } catch { /* no storage */ }
  themeChanged();
});
system.addEventListener("change", themeChanged);

const channels = (color) => [1, 3, 5].map((place) => parseInt(color.slice(place, place + 2), 16));

function luminance(color) {
  const [red, green, blue] = channels(color).map((value) => {
    const share = value / 255;
    return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
}

// A colour for the current background: on a dark one it is mixed with white until it can be seen, and black is white.
function themed(color) {
  if (!dark() || typeof color !== "string" || !/^#[0-9a-f]{6}$/i.test(color)) return color;
  if (color === "#000000") return "#ffffff";
  let shown = color;
  for (let share = 0.1; luminance(shown) < 0.18 && share < 1; share += 0.1) {
    const mixed = channels(color).map((value) => Math.round(value + share * (255 - value)));
    shown = "#" + mixed.map((value) => value.toString(16).padStart(2, "0")).join("");
  }
  return shown;
}

function themedDeep(value, key = "") {
  if (Array.isArray(value)) return value.map((entry) => themedDeep(entry, key));
  if (value && typeof value === "object") {
    return Object.fromEntries(Object.entries(value).map(([name, entry]) => [name, themedDeep(entry, name)]));
  }
  return key === "color" ? themed(value) : value;
}
