// The start: the page is painted before anything large is unpacked.

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
  const near = new IntersectionObserver((entries) => {
    for (const { isIntersecting, target } of entries) {
      if (!isIntersecting) continue;
      near.unobserve(target);
      drawFigure(target, data.plots[target.id], { runs: data.runs, thumbnails });
    }
  }, { rootMargin: "400px" });
  figures.forEach((figure) => near.observe(figure));
  document.documentElement.dataset.ready = "yes";
}

start();
