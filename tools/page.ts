/** A page of Markdown whose sections are written by programs, each when it was run. */
export interface Page {
  /** What stands above the first section. */
  readonly head: string;
  /** From its heading on, by its title (`## title`), in the page's order. */
  readonly sections: ReadonlyMap<string, string>;
}

export function parsePage(text: string): Page {
  const [head = "", ...sections] = text.split(/^(?=## )/m);
  return {
    head: head.trimEnd(),
    sections: new Map(sections.map((section) => [titleOf(section), section.trimEnd()])),
  };
}

/** @param titles which sections it has, in this order; what the page lacks is left out */
export function renderPage({ head, sections }: Page, titles: readonly string[]): string {
  const parts = titles.flatMap((title) => sections.get(title) ?? []);
  return `${[head, ...parts].join("\n\n")}\n`;
}

/** The page with this section, in place of that of the same title. */
export function withSection(page: Page, title: string, lines: readonly string[]): Page {
  const section = [`## ${title}`, "", ...lines].join("\n").trimEnd();
  return { ...page, sections: new Map([...page.sections, [title, section]]) };
}

const titleOf = (section: string) => section.slice(3, section.indexOf("\n")).trim();
