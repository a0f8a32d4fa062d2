/**
 * ESLint plugin for the layout of `src`: one top-level folder is a family, and imports point one way.
 *
 * `imports`   cli and testing see every family, a wing sees core, core sees only itself; nothing sees cli.
 *             From another folder only PascalCase files and index are visible (testing may open core's private files).
 *             Imports inside src are relative and end in .js.
 * `no-cycles` no file reaches itself through relative imports, type-only imports included.
 */
import { existsSync, readFileSync, statSync } from "node:fs"
import path from "node:path"
import ts from "typescript"

const isPublic = (file) => /^[A-Z][A-Za-z0-9]*$/.test(file) || file === "index"

const place = (src, file) => {
  const segments = path.relative(src, file).split(path.sep)
  return segments[0] === ".." || segments.length < 2
    ? undefined
    : { family: segments[0], name: path.basename(file).replace(/\.[jt]s$/, "") }
}

const complaint = (src, file, specifier) => {
  if (/^effect-periscope(\/|$)/.test(specifier)) return `Import "${specifier}" by its relative path`
  if (!/^\.\.?(\/|$)/.test(specifier)) return undefined
  if (!specifier.endsWith(".js")) return `End the relative import "${specifier}" in .js`
  const from = place(src, file)
  const to = place(src, path.resolve(path.dirname(file), specifier))
  if (to === undefined) return `"${specifier}" is in no family folder of src`
  if (from === undefined || from.family === to.family) return undefined
  if (to.family === "cli") return `${from.family} must not import cli: nothing does`
  const seesAll = from.family === "cli" || from.family === "testing"
  if (!seesAll && from.family === "core") return `core must not import the wing ${to.family}`
  if (!seesAll && to.family !== "core")
    return `${from.family} must not import ${to.family}: a wing imports core and itself`
  if (isPublic(to.name) || (from.family === "testing" && to.family === "core")) return undefined
  return `${to.family}/${to.name} is private to its folder: from ${from.family} only PascalCase files are visible`
}

/** Calls `visit(specifier, node)` for every static, re-exporting, dynamic and type import of a file. */
const eachImport = (visit) => {
  const literal = (node, source) => {
    if (source?.type === "Literal" && typeof source.value === "string") visit(source.value, node)
  }
  const fromSource = (node) => literal(node, node.source)
  return {
    ImportDeclaration: fromSource,
    ExportNamedDeclaration: fromSource,
    ExportAllDeclaration: fromSource,
    ImportExpression: fromSource,
    TSImportType: (node) => literal(node, node.source ?? node.argument?.literal)
  }
}

const resolve = (file, specifier) =>
  specifier.startsWith(".") ? path.resolve(path.dirname(file), specifier.replace(/\.js$/, ".ts")) : undefined

/** Every module a text names. (`ts.preProcessFile` would do, but misses `export * as X from`.) */
const specifiers = (text) => {
  const found = []
  const visit = (node) => {
    const named =
      ts.isImportDeclaration(node) || ts.isExportDeclaration(node)
        ? node.moduleSpecifier
        : ts.isImportTypeNode(node)
          ? node.argument.literal
          : ts.isCallExpression(node) && node.expression.kind === ts.SyntaxKind.ImportKeyword
            ? node.arguments[0]
            : undefined
    if (named !== undefined && ts.isStringLiteralLike(named)) found.push(named.text)
    ts.forEachChild(node, visit)
  }
  visit(ts.createSourceFile("module.ts", text, ts.ScriptTarget.Latest))
  return found
}

const known = new Map()
const importsOf = (file) => {
  if (!existsSync(file)) return []
  const { mtimeMs } = statSync(file)
  const cached = known.get(file)
  if (cached?.mtimeMs === mtimeMs) return cached.imports
  const imports = specifiers(readFileSync(file, "utf8")).flatMap((specifier) => resolve(file, specifier) ?? [])
  known.set(file, { mtimeMs, imports })
  return imports
}

/** The shortest chain of imports from `start` to `goal`, or undefined. */
const chain = (start, goal) => {
  const cameFrom = new Map([[start, undefined]])
  for (const file of cameFrom.keys()) {
    if (file === goal) {
      const steps = []
      for (let step = goal; step !== undefined; step = cameFrom.get(step)) steps.unshift(step)
      return steps
    }
    for (const next of importsOf(file)) if (!cameFrom.has(next)) cameFrom.set(next, file)
  }
  return undefined
}

const imports = {
  meta: { type: "problem", schema: [] },
  create: (context) =>
    eachImport((specifier, node) => {
      const message = complaint(path.join(context.cwd, "src"), context.filename, specifier)
      if (message !== undefined) context.report({ node, message })
    })
}

const noCycles = {
  meta: { type: "problem", schema: [] },
  create: (context) =>
    eachImport((specifier, node) => {
      const target = resolve(context.filename, specifier)
      const cycle = target === undefined ? undefined : chain(target, context.filename)
      if (cycle === undefined) return
      const names = [context.filename, ...cycle].map((file) => path.relative(path.join(context.cwd, "src"), file))
      context.report({ node, message: `Import cycle: ${names.join(" -> ")}` })
    })
}

export default { meta: { name: "house" }, rules: { imports, "no-cycles": noCycles } }
