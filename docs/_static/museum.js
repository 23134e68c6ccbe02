"use strict";
// Hide every fault that does not have all the words of the box, and say how many are left.

const box = document.getElementById("filter");
const groups = [...document.querySelectorAll("section section")].filter((s) => s.querySelector("h2"));
const faults = [...document.querySelectorAll("section section section")];

function show() {
  const words = box.value.toLowerCase().split(/\s+/).filter(Boolean);
  for (const fault of faults) {
    const text = fault.textContent.toLowerCase();
    fault.hidden = !words.every((word) => text.includes(word));
  }
  for (const group of groups) {
    group.hidden = [...group.querySelectorAll("section")].every((fault) => fault.hidden);
  }
  const left = faults.filter((fault) => !fault.hidden).length;
  document.getElementById("filtered").value = `${left} of ${faults.length}`;
}

box.addEventListener("input", show);
show();
