/**
 * Reads the public modules of a package, those that the `exports` of its package.json name: their exports, what the
 * docstrings say about them, and their signatures.
 *
 * A re-export is read where it is declared; the tags of the re-export come first, as a private file needs none.
 */
import { readFileSync } from "node:fs"
import path from "node:path"
import ts from "typescript"
import type { Example } from "./examples.js"
import { extract, optionsOf } from "./examples.js"

export interface Link {
  readonly line: number
  /** As written, like `make`, `Watcher.make` or an address. */
  readonly target: string
}

export interface Docstring {
  readonly file: string
  readonly line: number
  /** Markdown, without the tags. */
  readonly text: string
  readonly tags: ReadonlyMap<string, string>
  readonly examples: ReadonlyArray<Example>
  readonly links: ReadonlyArray<Link>
}

interface Place {
  readonly file: string
  readonly line: number
}

export interface Entry {
  readonly name: string
  readonly isValue: boolean
  readonly doc: Docstring | undefined
  /** Where a problem is to be mended: the docstring, or the declaration that has none. */
  readonly place: Place
  /** The same for its tags. */
  readonly tagsPlace: Place
  /** The docstrings of members: they stand in the signature. */
  readonly members: ReadonlyArray<Docstring>
  readonly tags: ReadonlyMap<string, string>
  readonly signature: string
  /** The public types that its signature names. */
  readonly uses: ReadonlyArray<Use>
}

interface Use {
  readonly file: string
  readonly name: string
}

/** A type of a private file that a signature names: no user can, but has to read it. */
export interface Helper {
  readonly name: string
  readonly text: string
  readonly signature: string
}

export interface Module {
  /** Its sub-path, like `http/HttpSource`. */
  readonly path: string
  readonly name: string
  /** The statement that imports it. */
  readonly usage: string
  readonly file: string
  readonly header: Docstring | undefined
  readonly entries: ReadonlyArray<Entry>
  readonly helpers: ReadonlyArray<Helper>
}

/** An index: the modules that are imported together. */
export interface Barrel {
  /** Its import path, like `effect-periscope/http`. */
  readonly specifier: string
  readonly file: string
  readonly header: Docstring | undefined
  readonly modules: ReadonlyArray<Module>
}

/** Takes a docstring apart: what stands before the first tag, and the tags, fenced code left alone. */
export const parse = (comment: string, file: string, line: number): Docstring => {
  const lines = comment
    .replace(/^\/\*\*|\s*\*\/$/g, "")
    .split("\n")
    .map((text) => text.replace(/^\s*\* ?/, ""))
  const tags = new Map<string, string>()
  let isFenced = false
  let firstTag = lines.length
  for (const [at, text] of lines.entries()) {
    if (/^\s*```/.test(text)) isFenced = !isFenced
    const tag = isFenced ? null : /^\s*@(\w+)(?:\s+(.*))?$/.exec(text)
    if (tag === null) continue
    firstTag = Math.min(firstTag, at)
    tags.set(tag[1]!, (tag[2] ?? "").trim())
  }
  const described = lines.slice(0, firstTag).join("\n")
  const examples = extract(described).map((example) => ({ file, line: line + example.line - 1, code: example.code }))
  const links = lines.flatMap((text, at) =>
    [...text.matchAll(/\{@link\s+([^\s}|]+)[^}]*\}/g)].map((link) => ({ line: line + at, target: link[1]! }))
  )
  return { file, line, text: described.trim(), tags, examples, links }
}

/** Reads the files of one program. */
class Reader {
  private readonly program: ts.Program
  private readonly checker: ts.TypeChecker
  private readonly declared = new Map<ts.SourceFile, ReadonlyMap<string, ReadonlyArray<ts.Statement>>>()
  /** What is public, and from which file. */
  private readonly places = new Map<ts.Symbol, Use>()

  constructor(
    private readonly root: string,
    files: ReadonlyArray<string>,
    host: ts.CompilerHost
  ) {
    const options = { ...optionsOf(root), declaration: true, emitDeclarationOnly: true, stripInternal: true }
    this.program = ts.createProgram({ rootNames: files.map((file) => path.join(root, file)), options, host })
    this.checker = this.program.getTypeChecker()
    for (const file of files) {
      for (const symbol of this.exportsOf(file)) this.places.set(this.target(symbol), { file, name: symbol.name })
    }
  }

  private target(symbol: ts.Symbol): ts.Symbol {
    return symbol.flags & ts.SymbolFlags.Alias ? this.checker.getAliasedSymbol(symbol) : symbol
  }

  private fileOf(node: ts.Node): string {
    return path.relative(this.root, node.getSourceFile().fileName).replaceAll("\\", "/")
  }

  private lineOf(node: ts.Node, position = node.getStart()): number {
    return node.getSourceFile().getLineAndCharacterOfPosition(position).line + 1
  }

  private docOf(node: ts.Node): Docstring | undefined {
    const comment = ts.getJSDocCommentsAndTags(node).filter(ts.isJSDoc).at(-1)
    if (comment === undefined) return undefined
    return parse(comment.getText(), this.fileOf(node), this.lineOf(node, comment.pos))
  }

  header(file: string): Docstring | undefined {
    const source = this.source(file)
    const comments = (ts.getLeadingCommentRanges(source.text, source.getFullStart()) ?? []).filter(({ pos }) =>
      source.text.startsWith("/**", pos)
    )
    const first = source.statements[0]
    const isOfStatement = first !== undefined && !ts.isImportDeclaration(first) && !ts.isExportDeclaration(first)
    const comment = comments.length > (isOfStatement ? 1 : 0) ? comments[0] : undefined
    return comment && parse(source.text.slice(comment.pos, comment.end), file, this.lineOf(source, comment.pos))
  }

  private source(file: string): ts.SourceFile {
    const source = this.program.getSourceFile(path.join(this.root, file))
    if (source === undefined) throw new Error(`${file} is named by the exports of package.json, but is not there`)
    return source
  }

  private exportsOf(file: string): ReadonlyArray<ts.Symbol> {
    const module = this.checker.getSymbolAtLocation(this.source(file))
    return module === undefined ? [] : this.checker.getExportsOfModule(module)
  }

  /** The files that an index gives as namespaces. */
  modulesOf(index: string): ReadonlyArray<string> {
    return this.exportsOf(index).flatMap((symbol) => {
      return (this.target(symbol).declarations ?? []).filter(ts.isSourceFile).map((node) => this.fileOf(node))
    })
  }

  entries(file: string): Pick<Module, "entries" | "helpers"> {
    const helpers = new Map<ts.Symbol, Helper>()
    const entries = this.exportsOf(file).flatMap((symbol) => this.entriesOf(symbol, helpers))
    return { entries, helpers: [...helpers.values()] }
  }

  private entriesOf(symbol: ts.Symbol, helpers: Map<ts.Symbol, Helper>): ReadonlyArray<Entry> {
    const target = this.target(symbol)
    const specifier = target === symbol ? undefined : symbol.declarations?.[0]
    const reExport = specifier && this.docOf(specifier)
    const seen = new Set<ts.SyntaxKind>()
    return (target.declarations ?? []).flatMap((node): ReadonlyArray<Entry> => {
      // overloads are one entry, documented at the first
      if (seen.has(node.kind)) return []
      seen.add(node.kind)
      const own = this.docOf(node)
      const doc = own === undefined || own.text === "" ? (reExport ?? own) : own
      const tags = new Map([...(own?.tags ?? []), ...(reExport?.tags ?? [])])
      if (tags.has("internal")) return []
      const declaration = { file: this.fileOf(node), line: this.lineOf(node) }
      return [
        {
          name: symbol.name,
          isValue: !ts.isInterfaceDeclaration(node) && !ts.isTypeAliasDeclaration(node),
          doc,
          place: doc ?? declaration,
          tagsPlace: reExport ?? own ?? declaration,
          members: this.memberDocs(node),
          tags,
          signature: this.signature(target.name, node),
          uses: this.uses(node, helpers).filter((use) => this.places.get(target) !== use)
        }
      ]
    })
  }

  /** The public types that a declaration names; adds the private ones, and those that they name, to `helpers`. */
  private uses(node: ts.Declaration, helpers: Map<ts.Symbol, Helper>): ReadonlyArray<Use> {
    const found = new Set<Use>()
    const named = (name: ts.Node): void => {
      const symbol = this.checker.getSymbolAtLocation(name)
      const target = symbol && this.target(symbol)
      const place = target && this.places.get(target)
      if (place !== undefined) found.add(place)
      if (target === undefined || place !== undefined || helpers.has(target)) return
      const declaration = target.declarations?.[0]
      if (declaration === undefined || !this.fileOf(declaration).startsWith("src/")) return
      if (!ts.isTypeAliasDeclaration(declaration) && !ts.isInterfaceDeclaration(declaration)) return
      const text = this.docOf(declaration)?.text ?? ""
      helpers.set(target, { name: target.name, text, signature: this.signature(target.name, declaration) })
      this.uses(declaration, helpers)
    }
    const visit = (child: ts.Node): void => {
      if (ts.isBlock(child)) return
      if (ts.isTypeReferenceNode(child)) named(child.typeName)
      if (ts.isExpressionWithTypeArguments(child)) named(child.expression)
      if (ts.isVariableDeclaration(child) && child.type !== undefined) return visit(child.type)
      if (ts.isArrowFunction(child)) {
        for (const part of [...(child.typeParameters ?? []), ...child.parameters, child.type]) if (part) visit(part)
        if (ts.isArrowFunction(child.body)) visit(child.body)
        return
      }
      const isPrivate = ts.isClassElement(child) && ts.getCombinedModifierFlags(child) & ts.ModifierFlags.Private
      if (!isPrivate) ts.forEachChild(child, visit)
    }
    visit(node)
    return [...found]
  }

  private memberDocs(node: ts.Node): ReadonlyArray<Docstring> {
    const found: Array<Docstring> = []
    const visit = (child: ts.Node): void => {
      if (ts.isTypeElement(child) || ts.isClassElement(child)) {
        const doc = this.docOf(child)
        if (doc !== undefined) found.push(doc)
      }
      if (!ts.isBlock(child)) ts.forEachChild(child, visit)
    }
    ts.forEachChild(node, visit)
    return found
  }

  /** The statements of the declaration file that is emitted for a source file. */
  private declarationsOf(source: ts.SourceFile): ReadonlyMap<string, ReadonlyArray<ts.Statement>> {
    const known = this.declared.get(source)
    if (known !== undefined) return known
    let text = ""
    this.program.emit(source, (_, emitted) => (text = emitted), undefined, true)
    const statements = new Map<string, ReadonlyArray<ts.Statement>>()
    for (const statement of ts.createSourceFile("d.ts", text, ts.ScriptTarget.Latest, true).statements) {
      const named = ts.isVariableStatement(statement) ? statement.declarationList.declarations : [statement]
      for (const { name } of named as ReadonlyArray<ts.NamedDeclaration>) {
        if (name !== undefined) statements.set(name.getText(), [...(statements.get(name.getText()) ?? []), statement])
      }
    }
    this.declared.set(source, statements)
    return statements
  }

  private signature(name: string, node: ts.Declaration): string {
    const statement = ts.isVariableDeclaration(node) ? node.parent.parent : node
    const declared = (this.declarationsOf(node.getSourceFile()).get(name) ?? []).filter(
      ({ kind }) => kind === statement.kind
    )
    // The base class of an error or a tag is a call: what it says is more than the name that the compiler gives it.
    const texts = ts.isClassDeclaration(node)
      ? [classSignature(node, declared.find(ts.isClassDeclaration))]
      : declared.map((found) => found.getText())
    return texts.join("\n").replace(/^export (default )?/gm, "")
  }
}

const classSignature = (node: ts.ClassDeclaration, declared: ts.ClassDeclaration | undefined): string => {
  const text = node.getSourceFile().text
  const head = text.slice(node.name!.getStart(), node.heritageClauses?.at(-1)?.end ?? node.name!.end)
  const typeParameters = node.heritageClauses === undefined ? declared?.typeParameters : undefined
  const parameters = typeParameters === undefined ? "" : `<${typeParameters.map((each) => each.getText()).join(", ")}>`
  const members = (declared?.members ?? []).filter(
    (member) => !(ts.getCombinedModifierFlags(member) & ts.ModifierFlags.Private)
  )
  return `declare class ${head}${parameters} {${members.map((member) => `\n${member.getFullText().trim()}`).join("")}\n}`
}

/** Reads all public modules, index by index; a module that no index gives comes with the index of its folder. */
export const readPackage = (root: string, host: ts.CompilerHost): ReadonlyArray<Barrel> => {
  const manifest = JSON.parse(readFileSync(path.join(root, "package.json"), "utf8"))
  const targets = Object.entries<string | { readonly types: string }>(manifest.exports).flatMap(([key, target]) => {
    if (typeof target === "string") return []
    const file = target.types.replace(/^\.\/dist\//, "src/").replace(/\.d\.ts$/, ".ts")
    return [{ file, subPath: key.slice(2), folder: path.dirname(file), isIndex: path.basename(file) === "index.ts" }]
  })
  const reader = new Reader(
    root,
    targets.map(({ file }) => file),
    host
  )
  const specifierOf = (subPath: string): string => (subPath === "" ? manifest.name : `${manifest.name}/${subPath}`)
  return targets
    .filter(({ isIndex }) => isIndex)
    .map((index) => {
      const inIndex = reader.modulesOf(index.file)
      const specifier = specifierOf(index.subPath)
      const modules = targets
        .filter(({ folder, isIndex }) => !isIndex && folder === index.folder)
        .map(({ file, subPath }): Module => {
          const name = path.basename(file, ".ts")
          const usage = inIndex.includes(file)
            ? `import { ${name} } from "${specifier}"`
            : `import * as ${name} from "${specifierOf(subPath)}"`
          return { path: subPath, name, usage, file, header: reader.header(file), ...reader.entries(file) }
        })
      return { specifier, file: index.file, header: reader.header(index.file), modules }
    })
}
