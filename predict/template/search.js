"use strict";

// A thumbnail opens larger; the arrow keys lead to its neighbours, in the order of the page.
const buttons = [...document.querySelectorAll(".found button")];
const dialog = document.querySelector("dialog");
let place = 0;

function show(number) {
  place = (number + buttons.length) % buttons.length;
  const item = buttons[place].closest("li");
  const word = item.closest("section").querySelector("h2").firstChild.textContent.trim();
  dialog.querySelector("img").src = item.querySelector("img").src;
  const [told, path] = item.querySelectorAll("p");
  dialog.querySelector(".caption").textContent = `${word}: ${told.textContent.trim()}, ${path.title}`;
}

buttons.forEach((button, number) => {
  button.addEventListener("click", () => {
    show(number);
    dialog.showModal();
  });
});
for (const button of dialog.querySelectorAll("[data-step]")) {
  const step = Number(button.dataset.step);
  button.addEventListener("click", () => (step ? show(place + step) : dialog.close()));
}
dialog.addEventListener("keydown", (event) => {
  const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (step) {
    event.preventDefault();
    show(place + step);
  }
});
dialog.addEventListener("close", () => buttons[place].focus());
