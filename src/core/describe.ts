/**
 * What a cause says in one line: for logs, status and parked changes.
 */
import * as Cause from "effect/Cause"
import * as Predicate from "effect/Predicate"

export const describe = (cause: Cause.Cause<unknown>): string => {
  const error = Cause.squash(cause)
  if (!Predicate.isObject(error)) return String(error)
  const tag = "_tag" in error ? String(error._tag) : error instanceof Error ? error.name : ""
  const message = "message" in error ? String(error.message) : ""
  // a message that a schema made is its fields alone
  if (message !== "") return message.startsWith("{") ? oneLine(`${tag} ${message}`) : message
  // a nested value may be a request, whose address and headers are secrets
  const fields = Object.entries(error).filter(([name, value]) => !ofErrors.has(name) && isPlain(value))
  return oneLine(`${tag} ${fields.length === 0 ? "" : JSON.stringify(Object.fromEntries(fields))}`)
}

const isPlain = (value: unknown): boolean =>
  typeof value === "string" || typeof value === "number" || typeof value === "boolean"

const ofErrors = new Set(["_tag", "message", "name", "stack", "cause"])
const maxLength = 300

const oneLine = (text: string): string => {
  const line = text.replace(/\s+/g, " ").trim()
  return line.length <= maxLength ? line : `${line.slice(0, maxLength)}…`
}
