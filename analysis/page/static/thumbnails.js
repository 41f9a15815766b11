// The image under the cursor on a t-SNE map, if the page was made with thumbnails.
const ZOOM = 3;

// The places of the images on the sheet, by map, and the sheet as a picture; undefined without thumbnails.
async function readThumbnails() {
  const content = document.getElementById("thumbnails").textContent;
  if (!content) return undefined;
  const found = JSON.parse(content);
  const places = Object.fromEntries(Object.entries(found.places).map(([name, spec]) => [name, array(spec)]));
  const sheet = await createImageBitmap(new Blob([bytes(found.sheet)], { type: "image/jpeg" }));
  return { ...found, places, sheet };
}

// A function that shows the image of one of plotly's points, whose place on the sheet is in customdata, or hides it.
function imagesOf(plot, { tile, columns, sheet }) {
  const size = ZOOM * tile;
  const canvas = element("canvas", { class: "thumbnail", width: size, height: size, "aria-hidden": "true", hidden: "" });
  plot.after(canvas);
  return ({ customdata: place, x, y } = {}) => {
    canvas.hidden = !(place >= 0);
    if (canvas.hidden) return;
    const [column, row] = [place % columns, Math.floor(place / columns)];
    canvas.getContext("2d").drawImage(sheet, column * tile, row * tile, tile, tile, 0, 0, size, size);
    const { xaxis, yaxis } = plot._fullLayout;
    const [across, down] = [xaxis._offset + xaxis.d2p(x), yaxis._offset + yaxis.d2p(y)];
    const left = Math.min(Math.max(across - size / 2, 0), plot.clientWidth - size);
    const top = down < plot.clientHeight / 2 ? down + 18 : down - size - 18; // the label is beside the point
    canvas.style.left = `${plot.offsetLeft + left}px`;
    canvas.style.top = `${plot.offsetTop + top}px`;
  };
}
