/**
 * What a cause says in one line, for logs.
 */
import * as Cause from "effect/Cause"
import * as Predicate from "effect/Predicate"

const maxLength = 300

/** Only the tag and the message of an error: its other fields may be requests, whose headers are secrets. */
export const causeText = (cause: Cause.Cause<unknown>): string => {
  const error = Cause.squash(cause)
  const text = Predicate.isObject(error)
    ? [nameOf(error), "message" in error ? String(error.message) : ""].filter((part) => part !== "").join(": ")
    : String(error)
  const line = text.replace(/\s+/g, " ").trim()
  return line.length <= maxLength ? line : `${line.slice(0, maxLength)}…`
}

const nameOf = (error: object): string =>
  "_tag" in error ? String(error._tag) : error instanceof Error ? error.name : ""
