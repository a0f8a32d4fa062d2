/**
 * Adds to requests what opens a storage account: a signature by its key, or one that was made before.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as azureKey from "./azureKey.js"
import type { Request, ResponseHeaders, Transport } from "./cloudRequest.js"
import { parseDate } from "./cloudRequest.js"
import type { ObjectStoreError } from "./ObjectStore.js"

/** A minute less than the 15 that Azure allows, since the answer took its time. */
const allowedSkewMillis = 14 * 60 * 1000

/**
 * Signs with the account's key. A signature holds the time, and Azure refuses one that is far off: then the clock is set by the
 * answer's own, once, and the request is repeated.
 */
export const withKey = (transport: Transport, account: string, key: Redacted.Redacted): Transport => {
  let skewMillis = 0
  const around =
    <A extends { readonly status: number; readonly headers: ResponseHeaders }, R>(
      ask: (request: Request) => Effect.Effect<A, ObjectStoreError, R>
    ) =>
    (request: Request): Effect.Effect<A, ObjectStoreError, R> => {
      const signed = Effect.flatMap(Clock.currentTimeMillis, (nowMillis) => {
        const sentMillis = nowMillis + skewMillis
        const dated = {
          ...request,
          headers: { ...request.headers, "x-ms-date": new Date(sentMillis).toUTCString() }
        }
        const authorization = azureKey.authorization(dated, account, key)
        return Effect.map(ask({ ...dated, headers: { ...dated.headers, authorization } }), (answer) => {
          const theirs = parseDate(answer.headers["date"] ?? "")
          const isRefused = answer.status === 403 && answer.headers["x-ms-error-code"] === "AuthenticationFailed"
          const isSkewed = isRefused && theirs !== undefined && Math.abs(theirs - sentMillis) > allowedSkewMillis
          if (isSkewed) skewMillis = theirs - nowMillis
          return { answer, isSkewed }
        })
      })
      return Effect.flatMap(signed, ({ answer, isSkewed }) =>
        isSkewed ? Effect.map(signed, (again) => again.answer) : Effect.succeed(answer)
      )
    }
  return { fail: transport.fail, send: around(transport.send), open: around(transport.open) }
}

/** Appends a shared access signature. It is in the address from here on, which nothing shows. */
export const withSas = (transport: Transport, token: Redacted.Redacted): Transport => {
  const add = (request: Request): Request => ({
    ...request,
    url: `${request.url}${request.url.includes("?") ? "&" : "?"}${Redacted.value(token)}`
  })
  return {
    fail: transport.fail,
    send: (request) => transport.send(add(request)),
    open: (request) => transport.open(add(request))
  }
}
