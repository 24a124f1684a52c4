// What can be measured on a page: each function returns what is wrong with it, as sentences.
// Playwright adds this beside axe; our Content-Security-Policy stays as it is.

window.measure = (() => {
  const CONTROLS = "a[href], button, input:not([type=hidden]), select, textarea, summary, [tabindex]";
  const FEWEST_FOR_SHAPES = 3; // WCAG 1.4.11
  const THINNEST_RING_PX = 2; // WCAG 2.4.13
  const ROUNDING_PX = 1;

  const named = (element) => {
    const text = element.textContent.trim().replace(/\s+/g, " ") || element.name || element.id;
    return `${element.localName} "${text.slice(0, 40)}"`;
  };

  const isShown = (element) => element.checkVisibility({ visibilityProperty: true });

  // For those who listen alone, or until it has the focus.
  const isAside = (element) =>
    element.closest(".hidden") || element.getBoundingClientRect().bottom + scrollY <= 0;

  const all = (selector) => [...document.querySelectorAll(selector)].filter(isShown);

  const controls = () =>
    all(CONTROLS).filter((element) => element.tabIndex >= 0 && !element.matches(":disabled"));

  // -- axe

  const axe = async (left) => {
    const known = window.axe.getRules().map(({ ruleId }) => ruleId);
    const values = known.filter((id) => !left.includes(id));
    const options = { runOnly: { type: "rule", values }, resultTypes: ["violations"] };
    const { violations, incomplete } = await window.axe.run(document, options);
    return [...violations, ...incomplete].flatMap(({ id, nodes }) =>
      nodes.map(({ html, any, all, none }) => {
        const why = [...any, ...all, ...none].map(({ message }) => message);
        return `${id}: ${html} ${why.join(" ")}`;
      }),
    );
  };

  // -- Colours (WCAG 2, relative luminance)

  const channels = (color) => color.match(/[\d.]+/g).map(Number);

  const luminance = (color) => {
    const [red, green, blue] = channels(color)
      .slice(0, 3)
      .map((value) => value / 255)
      .map((value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4));
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  };

  const contrast = (one, other) => {
    const [dark, light] = [luminance(one), luminance(other)].sort((a, b) => a - b);
    return (light + 0.05) / (dark + 0.05);
  };

  const behind = (element) => {
    for (let place = element; place; place = place.parentElement) {
      const color = getComputedStyle(place).backgroundColor;
      if (channels(color)[3] !== 0) return color;
    }
    return "rgb(255, 255, 255)";
  };

  const around = (element) => behind(element.parentElement ?? element);

  // -- The keyboard

  const focused = [];
  const follow = () => {
    document.addEventListener("focusin", ({ target }) => {
      const style = getComputedStyle(target);
      const place = target.getBoundingClientRect();
      const ring = contrast(style.outlineColor, around(target));
      const problems = [];
      if (["none", "hidden"].includes(style.outlineStyle)) problems.push("has no ring");
      else if (parseFloat(style.outlineWidth) < THINNEST_RING_PX) problems.push("has a thin ring");
      else if (ring < FEWEST_FOR_SHAPES) problems.push(`has a ring of ${ring.toFixed(1)}:1`);
      if (place.bottom + scrollY <= 0 || place.right <= 0) problems.push("is nowhere when it has the focus");
      focused.push({ target, problems });
    });
    return controls().length;
  };

  // Somebody has gone around the page, more than once: where there were no controls, or in another order?
  const keyboard = (way) => {
    const expected = controls();
    if (way === "Shift+Tab") expected.reverse();
    const start = focused.findIndex(({ target }) => target === expected[0]);
    const around = [...focused.slice(start), ...focused.slice(0, start)];
    const went = [...new Set(around.map(({ target }) => target))]; // each comes again
    const missed = expected.filter((element) => !went.includes(element));
    const problems = focused.flatMap(({ target, problems }) =>
      problems.map((problem) => `${named(target)} ${problem}`),
    );
    problems.push(...missed.map((element) => `${named(element)} is out of reach`));
    if (!missed.length && expected.some((element, place) => went[place] !== element))
      problems.push(`the order is ${went.map(named).join(", ")}`);
    focused.length = 0;
    return [...new Set(problems)];
  };

  // Whoever tabs reads as whoever looks: to the right in a line, down in a column.
  const order = () => {
    const inOrder = controls().filter((element) => !isAside(element));
    return inOrder.slice(1).flatMap((element, place) => {
      const [before, after] = [inOrder[place], element].map((one) => one.getBoundingClientRect());
      const sameLine = after.top < before.bottom && before.top < after.bottom;
      const sameColumn = after.left < before.right && before.left < after.right;
      const goesBack =
        (sameLine && !sameColumn && after.left < before.left) ||
        (sameColumn && !sameLine && after.top < before.top) ||
        (!sameLine && !sameColumn && after.top < before.top && after.left < before.left);
      return goesBack ? [`${named(element)} stands before ${named(inOrder[place])}`] : [];
    });
  };

  // -- Room

  const texts = () => {
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    const found = [];
    while (walker.nextNode()) {
      const node = walker.currentNode;
      const element = node.parentElement;
      if (!node.data.trim() || !isShown(element) || isAside(element)) continue;
      const range = document.createRange();
      range.selectNodeContents(node);
      for (const line of range.getClientRects()) found.push({ element, line });
    }
    return found;
  };

  // A style of the reader's own; not as a tag, which the policy would stop.
  const wear = (style) => {
    const sheet = new CSSStyleSheet();
    sheet.replaceSync(style);
    document.adoptedStyleSheets = [sheet];
  };

  const clippers = (element) => {
    const found = [];
    for (let place = element; place && place !== document.body; place = place.parentElement)
      if (getComputedStyle(place).overflow !== "visible") found.push(place.getBoundingClientRect());
    return found;
  };

  const room = () => {
    const problems = [];
    const root = document.scrollingElement;
    if (root.scrollWidth > root.clientWidth)
      problems.push(`it scrolls sideways, ${root.scrollWidth} of ${root.clientWidth} px`);
    for (const element of all("body *")) {
      const { left, right } = element.getBoundingClientRect();
      if (!isAside(element) && (left < -ROUNDING_PX || right > root.clientWidth + ROUNDING_PX))
        problems.push(`${named(element)} leaves the page`);
    }
    const lines = texts();
    for (const { element, line } of lines) {
      const isCut = clippers(element).some(
        (box) =>
          line.right > box.right + ROUNDING_PX ||
          line.bottom > box.bottom + ROUNDING_PX ||
          line.left < box.left - ROUNDING_PX ||
          line.top < box.top - ROUNDING_PX,
      );
      if (isCut) problems.push(`${named(element)} is cut off`);
    }
    lines.forEach(({ element, line }, place) => {
      const slack = line.height / 4; // a line has room above and below its letters
      for (const other of lines.slice(place + 1))
        if (
          other.element !== element &&
          line.left + ROUNDING_PX < other.line.right &&
          other.line.left + ROUNDING_PX < line.right &&
          line.top + slack < other.line.bottom &&
          other.line.top + slack < line.bottom
        )
          problems.push(`${named(element)} lies on ${named(other.element)}`);
    });
    return [...new Set(problems)];
  };

  // -- What a scheme changes

  // A field is seen by its border, a button by its surface or its border (WCAG 1.4.11).
  const shapes = () =>
    all("input:not([type=hidden]), select, textarea, .button").flatMap((element) => {
      const style = getComputedStyle(element);
      const page = around(element);
      const best = Math.max(
        contrast(style.backgroundColor, page),
        parseFloat(style.borderTopWidth) >= 1 ? contrast(style.borderTopColor, page) : 0,
      );
      return best < FEWEST_FOR_SHAPES ? [`${named(element)} has a shape of ${best.toFixed(1)}:1`] : [];
    });

  const moves = () => [
    ...document.getAnimations().map((one) => `${named(one.effect.target)} moves`),
    ...all("*").flatMap((element) => {
      const { transitionDuration, animationName, scrollBehavior } = getComputedStyle(element);
      const isStill =
        transitionDuration === "0s" && animationName === "none" && scrollBehavior === "auto";
      return isStill ? [] : [`${named(element)} would move`];
    }),
  ];

  // -- What is said of an error

  const announced = () => {
    const wrong = all("[aria-invalid=true]");
    if (!wrong.length) return [];
    const problems = [];
    if (document.activeElement !== wrong[0])
      problems.push(`${named(wrong[0])} is wrong and has not got the focus`);
    if (!document.title.startsWith("Error: ")) problems.push(`the title is ${document.title}`);
    if (!all("[role=alert]").length) problems.push("there is no alert");
    for (const element of wrong) {
      const said = (element.getAttribute("aria-describedby") ?? "").split(" ").filter(Boolean);
      const is = (id) => document.getElementById(id)?.textContent.trim();
      if (!said.length || !said.every(is)) problems.push(`${named(element)} does not say why`);
    }
    return problems;
  };

  // -- What a picture shows, whatever the fonts of a machine

  const LOOKS = `color background-color border-color border-width border-radius display font-size
    font-weight grid-template-areas letter-spacing line-height margin max-width padding
    text-decoration-line text-transform`.split(/\s+/);

  const shown = () => {
    const styles = all("body, body *").map((element) => {
      const style = getComputedStyle(element);
      return [element.localName, ...LOOKS.map((name) => style.getPropertyValue(name))].join(" ");
    });
    return [document.body.innerText, styles.join("\n")];
  };

  return { announced, axe, follow, keyboard, moves, order, room, shapes, shown, wear };
})();
