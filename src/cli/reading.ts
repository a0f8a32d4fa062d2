/**
 * Reads the value of an option, or says in a sentence what is wrong with it.
 */
import * as Either from "effect/Either"
import type { Given } from "./options.js"

export type LogLevel = "none" | "error" | "warning" | "info" | "debug"

type Valued = {
  [K in keyof Given]-?: Given[K] extends string | undefined ? K : never
}[keyof Given]

/** The value of an option; `undefined` where it is not given. */
export const read = <A>(
  given: Given,
  name: Valued,
  parse: (text: string) => Either.Either<A, string>
): Either.Either<A | undefined, string> => {
  const text = given[name]
  return text === undefined
    ? Either.right(undefined)
    : Either.mapLeft(parse(text), (problem) => `--${name} ${JSON.stringify(text)} ${problem}`)
}

export const oneOf =
  <const A extends string>(...values: ReadonlyArray<A>) =>
  (text: string): Either.Either<A, string> => {
    const found = values.find((value) => value === text)
    return found === undefined ? Either.left(`is unknown; write ${values.join(" or ")}`) : Either.right(found)
  }

export const logLevel = (text: string): Either.Either<LogLevel, string> =>
  oneOf("none", "error", "warning", "info", "debug")(text === "warn" ? "warning" : text)
