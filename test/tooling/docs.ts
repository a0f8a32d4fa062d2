/**
 * Writes the API reference, a Markdown page for each public module, into `.generated/api/`, and complains where docstrings
 * fall short:
 *
 * - a module without a header, an export without a description, `@category` or `@since`
 * - a value without an **Example** that names it. A `{@link}` behind the word shares that of another export; type ids and
 *   defaults need none
 * - an example that does not compile, or states a result (`// => value`) that is another one when it runs
 * - a `{@link}` to nothing: it names an export of the same module, `Module.name`, or what only one module has
 */
import { mkdirSync, writeFileSync } from "node:fs"
import path from "node:path"
import { fileURLToPath } from "node:url"
import prettier from "prettier"
import type { Barrel, Docstring, Entry, Module } from "./docstrings.js"
import { readPackage } from "./docstrings.js"
import type { Example, Problem } from "./examples.js"
import { compile, optionsOf, renew, report, run, sharedHost } from "./examples.js"

/** Categories of values that nobody calls or provides. */
const withoutExample = new Set(["type ids", "defaults"])

interface Place {
  readonly module: Module
  /** Empty for the module itself. */
  readonly name: string
}

/** Finds what a link means on the page of a module, or in the index. */
const resolve = (modules: ReadonlyArray<Module>, from: Module | undefined, target: string): Place | undefined => {
  const [first, second, ...rest] = target.split(".")
  if (rest.length > 0) return undefined
  const has = (module: Module, name: string) => module.entries.some((entry) => entry.name === name)
  const named = modules.filter((module) => module.name === first)
  if (second !== undefined) {
    const module = named.find((module) => has(module, second))
    return module && { module, name: second }
  }
  if (from !== undefined && has(from, first!)) return { module: from, name: first! }
  if (named.length === 1) return { module: named[0]!, name: "" }
  const others = modules.filter((module) => has(module, first!))
  return others.length === 1 ? { module: others[0]!, name: first! } : undefined
}

const isAddress = (target: string): boolean => /^https?:\/\//.test(target)

/** The examples that an entry shows: its own, or those it shares. */
const examplesOf = (modules: ReadonlyArray<Module>, from: Module, doc: Docstring): ReadonlyArray<Example> => {
  const at = doc.text.indexOf("**Example**")
  if (at < 0) return []
  if (doc.examples.length > 0) return doc.examples
  const shared = /\{@link\s+([^\s}|]+)/.exec(doc.text.slice(at))
  const place = shared === null ? undefined : resolve(modules, from, shared[1]!)
  return place?.module.entries.find((entry) => entry.name === place.name && entry.isValue)?.doc?.examples ?? []
}

const problemsOf = (modules: ReadonlyArray<Module>, module: Module, entry: Entry): ReadonlyArray<Problem> => {
  const { doc, isValue, name, place, tags, tagsPlace } = entry
  const say = (message: string, { file, line } = place): Problem => ({
    file,
    line,
    message: `${module.name}.${name} ${message}`
  })
  if (doc === undefined) return [say("has no docstring")]
  const problems: Array<Problem> = []
  if (doc.text === "") problems.push(say("has no description"))
  const category = tags.get("category") ?? ""
  if (!/^[a-z][a-z -]*$/.test(category)) {
    problems.push(say("has no @category in lower case, on a line of its own", tagsPlace))
  }
  if (!/^\d+\.\d+\.\d+$/.test(tags.get("since") ?? "")) problems.push(say("has no @since with a version", tagsPlace))
  if (isValue && !withoutExample.has(category)) {
    const examples = examplesOf(modules, module, doc)
    if (examples.length === 0) problems.push(say("has no **Example**"))
    else if (!examples.some(({ code }) => new RegExp(`\\b${name}\\b`).test(code))) {
      problems.push(say("has an **Example** that does not name it"))
    }
  }
  return problems
}

const docsOf = ({ entries, header }: Module): ReadonlyArray<Docstring> =>
  [header, ...entries.flatMap(({ doc, members }) => [doc, ...members])].filter((doc) => doc !== undefined)

const check = (barrels: ReadonlyArray<Barrel>): ReadonlyArray<Problem> => {
  const modules = barrels.flatMap((barrel) => barrel.modules)
  const headless = [...barrels, ...modules].flatMap(({ file, header }) => [
    ...(header === undefined || header.text === ""
      ? [{ file, line: 1, message: "has no header that describes it" }]
      : []),
    ...(header?.tags.has("since") === false
      ? [{ file, line: header.line, message: "has a header without @since" }]
      : [])
  ])
  const dangling = (from: Module | undefined, docs: ReadonlyArray<Docstring>): ReadonlyArray<Problem> =>
    docs.flatMap(({ file, links }) =>
      links
        .filter(({ target }) => !isAddress(target) && resolve(modules, from, target) === undefined)
        .map(({ line, target }) => ({ file, line, message: `{@link ${target}} points nowhere` }))
    )
  return [
    ...headless,
    ...modules.flatMap((module) => module.entries.flatMap((entry) => problemsOf(modules, module, entry))),
    ...barrels.flatMap(({ header }) => (header === undefined ? [] : dangling(undefined, [header]))),
    ...modules.flatMap((module) => dangling(module, docsOf(module)))
  ]
}

const pageOf = ({ path }: Module): string => `${path}.md`

const linked = (modules: ReadonlyArray<Module>, from: Module | undefined, text: string): string =>
  text.replace(/\{@link\s+([^\s}|]+)\s*\|?\s*([^}]*)\}/g, (_, target: string, label: string) => {
    if (isAddress(target)) return `[${label || target}](${target})`
    const place = resolve(modules, from, target)
    if (place === undefined) return `\`${label || target}\``
    const folder = from === undefined ? "." : path.posix.dirname(pageOf(from))
    const page = path.posix.relative(folder, pageOf(place.module))
    const anchor = place.name === "" ? "" : `#${place.name}`
    return `[\`${label || target}\`](${place.module === from && anchor !== "" ? "" : page}${anchor})`
  })

const firstSentence = (text: string): string => /^[\s\S]*?\.(?=\s|$)/.exec(text)?.[0].replace(/\s+/g, " ") ?? text

const format = (signature: string): Promise<string> =>
  prettier.format(signature, { parser: "typescript", semi: false, printWidth: 100, trailingComma: "none" })

const page = async (modules: ReadonlyArray<Module>, module: Module): Promise<string> => {
  const categories = [...new Set(module.entries.map(({ tags }) => tags.get("category") ?? "others"))].sort()
  const inCategory = (category: string) =>
    module.entries.filter(({ tags }) => (tags.get("category") ?? "others") === category)
  const anchored = new Set<string>()
  const section = async (entry: Entry): Promise<string> => {
    const anchor = anchored.has(entry.name) ? "" : `<a id="${entry.name}"></a>\n\n`
    anchored.add(entry.name)
    const text = linked(modules, module, entry.doc?.text ?? "")
    const signature = await format(entry.signature)
    const uses = entry.uses.map(({ file, name }) => {
      const used = modules.find((other) => other.file === file)
      return used === undefined
        ? ""
        : linked(modules, module, `{@link ${used === module ? "" : `${used.name}.`}${name}}`)
    })
    const last = [...(uses.length === 0 ? [] : [`Uses ${uses.join(", ")}.`]), `Since ${entry.tags.get("since")}.`]
    return `${anchor}### ${entry.name}\n\n${text}\n\n\`\`\`ts\n${signature}\`\`\`\n\n${last.join(" ")}\n`
  }
  const names = (category: string) =>
    [...new Set(inCategory(category).map(({ name }) => `[${name}](#${name})`))].join(", ")
  const parts = [
    `# ${module.name}\n`,
    `\`\`\`ts\n${module.usage}\n\`\`\`\n`,
    `${linked(modules, module, module.header?.text ?? "")}\n`,
    `${categories.map((category) => `- ${category}: ${names(category)}`).join("\n")}\n`
  ]
  for (const category of categories) {
    parts.push(`## ${category}\n`)
    for (const entry of inCategory(category)) parts.push(await section(entry))
  }
  if (module.helpers.length > 0) parts.push("## Types that cannot be imported\n")
  for (const { name, signature, text } of module.helpers) {
    const described = text === "" ? "" : `${linked(modules, module, text)}\n\n`
    parts.push(`### ${name}\n\n${described}\`\`\`ts\n${await format(signature)}\`\`\`\n`)
  }
  return parts.join("\n")
}

const indexPage = (name: string, barrels: ReadonlyArray<Barrel>): string => {
  const modules = barrels.flatMap((barrel) => barrel.modules)
  const row = (module: Module) =>
    `| [${module.name}](${pageOf(module)}) | ${firstSentence(linked(modules, undefined, module.header?.text ?? "")).replaceAll("|", "\\|")} |`
  const part = ({ header, modules: own, specifier }: Barrel) => {
    const text = linked(modules, undefined, header?.text ?? "")
    return `## ${specifier}\n\n${text}\n\n| Module | |\n| --- | --- |\n${own.map(row).join("\n")}\n`
  }
  return [`# ${name}\n`, ...barrels.map(part)].join("\n")
}

/** Writes the reference of the package in `root`, and gives what is wrong with it. */
export const docs = async (
  root: string
): Promise<{ readonly summary: string; readonly problems: ReadonlyArray<Problem> }> => {
  const host = sharedHost(optionsOf(root))
  const barrels = readPackage(root, host)
  const modules = barrels.flatMap((barrel) => barrel.modules)
  const api = path.join(root, ".generated/api")
  renew(api)
  for (const module of modules) {
    const file = path.join(api, pageOf(module))
    mkdirSync(path.dirname(file), { recursive: true })
    writeFileSync(file, await page(modules, module))
  }
  writeFileSync(path.join(api, "index.md"), indexPage(barrels[0]?.specifier ?? "", barrels))

  const byPlace = new Map<string, Example>()
  for (const example of modules.flatMap(docsOf).flatMap((doc) => doc.examples)) {
    byPlace.set(`${example.file}:${example.line}`, example)
  }
  const examples = [...byPlace.values()]
  const typed = compile(root, path.join(root, ".generated/docs/typed"), examples, host)
  const { problems, ran } = run(path.join(root, ".generated/docs/run"), examples)
  const count = modules.reduce((sum, { entries }) => sum + entries.length, 0)
  return {
    summary: `${count} exports of ${modules.length} modules, ${examples.length} examples compiled, ${ran} run`,
    problems: [...check(barrels), ...typed, ...problems]
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { problems, summary } = await docs(fileURLToPath(new URL("../../", import.meta.url)))
  report("docs", summary, problems)
}
