for (const slider of document.querySelectorAll(".slider")) {
  const range = slider.querySelector("input");
  const move = () => slider.style.setProperty("--at", range.value + "%");
  range.addEventListener("input", move);
  move();
}
document.documentElement.classList.add("moving");
