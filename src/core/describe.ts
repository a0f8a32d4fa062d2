/**
 * What a cause says in one line: for logs, status and parked changes.
 */
import * as Cause from "effect/Cause"
import * as Either from "effect/Either"
import * as Predicate from "effect/Predicate"

/** Only what is safe to show, and never a failure of its own: a field of an error may be a getter that throws. */
export const describe = (cause: Cause.Cause<unknown>): string =>
  Either.getOrElse(
    Either.try(() => textOf(Cause.squash(cause))),
    () => "an error that cannot be shown"
  )

const textOf = (error: unknown): string => {
  if (!Predicate.isObject(error)) return String(error)
  const tag = "_tag" in error ? String(error._tag) : error instanceof Error ? error.name : ""
  if (isOfHttpClient(error)) return oneLine([tag, error.reason, error.response?.status].filter(Boolean).join(" "))
  const message = "message" in error ? String(error.message) : ""
  // a message that a schema made is its fields alone
  if (message !== "") return message.startsWith("{") ? oneLine(`${tag} ${message}`) : message
  // a nested value may be a request, whose address and headers are secrets
  const fields = Object.entries(error).filter(([name, value]) => !ofErrors.has(name) && isPlain(value))
  return oneLine(`${tag} ${fields.length === 0 ? "" : JSON.stringify(Object.fromEntries(fields))}`)
}

interface OfHttpClient {
  readonly reason: string
  readonly response?: { readonly status: number }
}

/** An error of the platform's HTTP client: its message has the whole address, query included. */
const isOfHttpClient = (error: object): error is OfHttpClient => httpClientError in error && "reason" in error

const httpClientError: unique symbol = Symbol.for("@effect/platform/HttpClientError") as never

const isPlain = (value: unknown): boolean =>
  typeof value === "string" || typeof value === "number" || typeof value === "boolean"

const ofErrors = new Set(["_tag", "message", "name", "stack", "cause"])
const maxLength = 300

const oneLine = (text: string): string => {
  const line = text.replace(/\s+/g, " ").trim()
  return line.length <= maxLength ? line : `${line.slice(0, maxLength)}…`
}
