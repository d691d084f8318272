// Goes through the pictures of each series by slider, wheel and arrow keys. A plain script: browsers load no modules from a folder.
"use strict";
for (const stack of document.querySelectorAll(".stack")) {
  const names = stack.dataset.names.split(" ");
  const [image, label] = [stack.querySelector("img"), stack.querySelector("label")];
  const [word, slider] = [label.querySelector("span"), label.querySelector("input")];
  const show = (place) => {
    const now = Math.min(Math.max(place, 0), names.length - 1);
    slider.value = String(now);
    image.src = names[now];
    word.textContent = stack.dataset.word.replace("{0}", String(now + 1)).replace("{1}", String(names.length));
    image.alt = word.textContent;
    slider.setAttribute("aria-valuetext", word.textContent);
  };
  slider.addEventListener("input", () => show(Number(slider.value)));
  image.addEventListener("wheel", (event) => {
    if (names.length < 2 || event.ctrlKey) return;
    event.preventDefault();
    show(Number(slider.value) + Math.sign(event.deltaY));
  }, { passive: false });
  label.hidden = names.length < 2;
  show(Number(slider.value));
}
