/**
 * What a cause says in one line: for logs, status and parked changes.
 */
import * as Cause from "effect/Cause"
import * as Inspectable from "effect/Inspectable"
import * as Predicate from "effect/Predicate"

export const describe = (cause: Cause.Cause<unknown>): string => {
  const error = Cause.squash(cause)
  if (!Predicate.isObject(error)) return String(error)
  const tag = "_tag" in error ? String(error._tag) : error instanceof Error ? error.name : ""
  const message = "message" in error ? String(error.message) : ""
  // a message that a schema made is its fields alone
  if (message !== "") return message.startsWith("{") ? oneLine(`${tag} ${message}`) : message
  const fields = Object.entries(error).filter(([name]) => !ofErrors.has(name))
  return oneLine(`${tag} ${fields.length === 0 ? "" : Inspectable.stringifyCircular(Object.fromEntries(fields))}`)
}

const ofErrors = new Set(["_tag", "message", "name", "stack", "cause"])
const maxLength = 300

const oneLine = (text: string): string => {
  const line = text.replace(/\s+/g, " ").trim()
  return line.length <= maxLength ? line : `${line.slice(0, maxLength)}…`
}
