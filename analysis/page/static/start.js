// The start: the page is painted before anything large is unpacked.

const PAPER = "718px"; // A4 without the margins of a browser

// What is printed has every figure, also those that were not scrolled to, in light colours and as wide as the paper.
function printing(drawAll) {
  const { dataset, style } = document.documentElement;
  let theme;
  addEventListener("beforeprint", () => {
    theme = dataset.theme;
    dataset.theme = "light";
    style.width = PAPER;
    themeChanged();
    drawAll();
  });
  addEventListener("afterprint", () => {
    dataset.theme = theme;
    style.width = "";
    themeChanged();
  });
}

async function start() {
  themeChanged();
  await painted();
  const figures = [...document.querySelectorAll("figure")];
  if (!window.DecompressionStream) {
    document.querySelector("main").prepend(element("p", { class: "warning" },
      _("This browser is too old for the figures: it lacks DecompressionStream. tables/results.csv has all numbers.")));
    return;
  }
  const data = JSON.parse(await unpacked("data"));
  resultsTable(data.results);
  await painted();
  const thumbnails = await readThumbnails();
  document.body.append(element("script", {}, await unpacked("plotly")));
  const draw = (figure) => {
    near.unobserve(figure);
    if (!drawn.has(figure)) drawFigure(figure, data.plots[figure.id], { runs: data.runs, thumbnails });
  };
  const near = new IntersectionObserver((entries) => {
    for (const { isIntersecting, target } of entries) if (isIntersecting) draw(target);
  }, { rootMargin: "400px" });
  figures.forEach((figure) => near.observe(figure));
  printing(() => figures.forEach(draw));
  document.documentElement.dataset.ready = "yes";
}

start();
