/** Compiles the examples of README.md, and runs those that state results. */
import { readFileSync } from "node:fs"
import { fileURLToPath } from "node:url"
import { compile, extract, report, run } from "./examples.js"

const root = fileURLToPath(new URL("../../", import.meta.url))
const file = "README.md"
const examples = extract(readFileSync(`${root}${file}`, "utf8")).map((example) => ({ ...example, file }))
const typed = compile(root, `${root}.generated/readme/typed/`, examples)
const { problems, ran } = run(`${root}.generated/readme/run/`, examples)
report(file, `${examples.length} examples compiled, ${ran} run`, [...typed, ...problems])
