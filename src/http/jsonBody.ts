/**
 * Turns a body into a typed value, and says what is wrong with it without showing it: a body may hold secrets.
 */
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import type * as ParseResult from "effect/ParseResult"
import * as Schema from "effect/Schema"
import type * as SchemaAST from "effect/SchemaAST"
import type { Failure } from "./validators.js"
import { failure } from "./validators.js"

/** Reads UTF-8, without a byte order mark; what is no UTF-8 becomes U+FFFD. */
export const text = (body: Uint8Array): string => new TextDecoder().decode(body)

type Parse = (text: string) => unknown

export const json = (body: Uint8Array, parse: Parse = JSON.parse): Either.Either<unknown, Failure> =>
  Either.try({
    try: () => parse(text(body)),
    // The error of JSON.parse shows a part of the body.
    catch: () => failure("Decode", `sent ${body.length} bytes that are not valid JSON.`)
  })

export const decoder = <A, I, R>(
  schema: Schema.Schema<A, I, R>,
  parse?: Parse
): ((body: Uint8Array) => Effect.Effect<A, Failure, R>) => {
  const decode = Schema.decodeUnknown(schema)
  return (body) =>
    Effect.flatMap(json(body, parse), (value) =>
      Effect.mapError(decode(value), ({ issue }) =>
        failure("Decode", `sent JSON that does not fit: ${describe(issue)}.`)
      )
    )
}

const maxDepth = 8

/** Where and what was expected; names of keys only where the schema itself names them. */
const describe = (issue: ParseResult.ParseIssue): string => {
  const path: Array<string> = []
  let known: ReadonlySet<PropertyKey> = new Set()
  let at = issue
  for (let depth = 0; depth < 64; depth++) {
    if (at._tag === "Pointer") {
      for (const key of Array.isArray(at.path) ? at.path : [at.path]) path.push(segment(key, known))
      at = at.issue
    } else if (at._tag === "Composite") {
      known = namesOf(at.ast)
      const [first] = Array.isArray(at.issues) ? at.issues : [at.issues]
      at = first
    } else if (at._tag === "Refinement" || at._tag === "Transformation") {
      if (at._tag === "Refinement" && at.kind === "Predicate") break
      at = at.issue
    } else {
      break
    }
  }
  const where = path.length === 0 ? "" : ` at ${path.slice(0, maxDepth).join("")}`
  return `${complaint(at)}${where}`
}

const complaint = (issue: ParseResult.ParseIssue): string => {
  if (issue._tag === "Missing") return "a value is missing"
  if (issue._tag === "Unexpected") return "there is an unexpected key"
  if (issue._tag === "Forbidden") return "the schema needs more than one step"
  return `expected ${nameOf(issue)}`
}

const nameOf = (issue: ParseResult.ParseIssue): string => {
  const name = "ast" in issue ? String(issue.ast) : "another value"
  return name.length > 100 ? `${name.slice(0, 100)}...` : name
}

const namesOf = (ast: SchemaAST.Annotated): ReadonlySet<PropertyKey> => {
  const signatures =
    "propertySignatures" in ast && Array.isArray(ast.propertySignatures)
      ? (ast.propertySignatures as ReadonlyArray<SchemaAST.PropertySignature>)
      : []
  return new Set(signatures.map(({ name }) => name))
}

const segment = (key: PropertyKey, known: ReadonlySet<PropertyKey>): string =>
  typeof key === "number" ? `[${key}]` : known.has(key) ? `[${JSON.stringify(String(key))}]` : "[*]"
