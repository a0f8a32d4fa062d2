/**
 * Decodes the data of entries, and says what is wrong with it without saying what it is.
 */
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Option from "effect/Option"
import * as ParseResult from "effect/ParseResult"
import * as Schema from "effect/Schema"
import type * as SchemaAST from "effect/SchemaAST"

/** What takes no effect stays an Either, which costs a tenth. */
export const mapNow = <A, B, E, R>(effect: Effect.Effect<A, E, R>, f: (value: A) => B): Effect.Effect<B, E, R> =>
  Either.isEither(effect) ? Either.map(effect as Either.Either<A, E>, f) : Effect.map(effect, f)

/** Whether a step of a path is a name of the schema's own; the keys of a record are data. */
const isDeclared = (ast: SchemaAST.AST | undefined, step: PropertyKey): boolean => {
  if (ast === undefined) return false
  switch (ast._tag) {
    case "TypeLiteral":
      return ast.propertySignatures.some(({ name }) => name === step)
    case "TupleType":
      return typeof step === "number"
    case "Union":
      return ast.types.some((type) => isDeclared(type, step))
    case "Transformation":
    case "Refinement":
      return isDeclared(ast.from, step) || (ast._tag === "Transformation" && isDeclared(ast.to, step))
    case "Suspend":
      return isDeclared(ast.f(), step)
    default:
      return false
  }
}

/** The kind of the first problem, and where it is. */
const problemOf = (issue: ParseResult.ParseIssue, ast?: SchemaAST.AST, path: ReadonlyArray<string> = []): string => {
  switch (issue._tag) {
    case "Pointer": {
      const steps = (Array.isArray(issue.path) ? issue.path : [issue.path]) as ReadonlyArray<PropertyKey>
      const names = steps.map((step) => (isDeclared(ast, step) ? String(step) : "[key]"))
      return problemOf(issue.issue, undefined, [...path, ...names])
    }
    case "Composite": {
      const [first] = (
        Array.isArray(issue.issues) ? issue.issues : [issue.issues]
      ) as ReadonlyArray<ParseResult.ParseIssue>
      return first === undefined ? at("Type", path) : problemOf(first, issue.ast, path)
    }
    case "Transformation":
    case "Refinement":
      return problemOf(issue.issue, issue.ast, path)
    default:
      return at(issue._tag, path)
  }
}

const at = (kind: string, path: ReadonlyArray<string>): string => {
  const what =
    kind === "Missing" ? "something is missing" : kind === "Unexpected" ? "something is too much" : "it does not fit"
  return path.length === 0 ? what : `${what} at ${path.join(".")}`
}

const parseJson = Option.liftThrowable((text: string): unknown => JSON.parse(text))
const readText = (text: string): unknown => Option.getOrElse(parseJson(text), () => text)

const thrown = "the schema threw an error"

/**
 * Decodes the text of an entry: by the schema, else JSON where it is JSON, and text where it is not. Fails with a sentence, also where the
 * schema throws: no later try would change that.
 */
export const make = <A, I, R>(
  schema: Schema.Schema<A, I, R> | undefined
): ((data: string | undefined) => Effect.Effect<A, string, R>) => {
  if (schema === undefined) return (data) => Either.right((data === undefined ? data : readText(data)) as A)
  const decodeText = ParseResult.decodeUnknown(Schema.parseJson(schema))
  const decodeNothing = ParseResult.decodeUnknown(schema)
  return (data) => {
    const decoding = Either.try({
      try: () => (data === undefined ? decodeNothing(undefined) : decodeText(data)),
      catch: () => thrown
    })
    if (Either.isLeft(decoding)) return Either.left(decoding.left)
    const decoded = decoding.right
    return Either.isEither(decoded)
      ? Either.mapLeft(decoded as Either.Either<A, ParseResult.ParseIssue>, (issue) => problemOf(issue))
      : Effect.catchAllDefect(
          Effect.mapError(decoded, (issue) => problemOf(issue)),
          () => Effect.fail(thrown)
        )
  }
}
