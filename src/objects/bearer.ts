/**
 * Sends an access token with each request, and keeps it until it is about to end or is refused. Many that want a new one at once
 * wait for the same.
 */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import type { AccessToken } from "./AccessToken.js"
import { AccessTokenError } from "./AccessToken.js"
import type { Request, Transport } from "./cloudRequest.js"
import type { ObjectStoreError } from "./ObjectStore.js"

export interface Tokens {
  /** The token in use, or a new one where there is none or it is about to end. */
  readonly current: Effect.Effect<Redacted.Redacted, AccessTokenError>
  /** Another token than the one that was refused; `undefined` where the source gives the same again. */
  readonly replace: (refused: Redacted.Redacted) => Effect.Effect<Redacted.Redacted | undefined, AccessTokenError>
}

/** How long before its end a token is renewed, unless its life is shorter than twice that. */
const marginMillis = 5 * 60 * 1000

interface Kept {
  readonly token: Redacted.Redacted
  readonly renewAtMillis: number
  readonly endsAtMillis: number
}

/** A token as it goes into a header: one that was read from a file often ends in a line break. */
const checked = ({ expiresAtMillis, token }: AccessToken): Effect.Effect<AccessToken, AccessTokenError> => {
  const text = Redacted.value(token).trim()
  return /^[\x21-\x7e]+$/.test(text)
    ? Effect.succeed({ token: Redacted.make(text), expiresAtMillis })
    : Effect.fail(
        new AccessTokenError({
          reason: "Unauthorized",
          message: "The access token is empty or holds a character that no header can carry."
        })
      )
}

const keep = ({ expiresAtMillis, token }: AccessToken, nowMillis: number): Kept => {
  const endsAtMillis = expiresAtMillis ?? Infinity
  const margin = Math.min(marginMillis, Math.max(0, endsAtMillis - nowMillis) / 2)
  return { token, endsAtMillis, renewAtMillis: endsAtMillis - margin }
}

export const make = (
  fetch: Effect.Effect<AccessToken, AccessTokenError>,
  timeout: Duration.Duration
): Effect.Effect<Tokens> =>
  Effect.map(Effect.makeSemaphore(1), (semaphore) => {
    let kept: Kept | undefined
    const renew: Effect.Effect<Kept, AccessTokenError> = fetch.pipe(
      Effect.disconnect,
      Effect.timeoutFail({
        duration: timeout,
        onTimeout: () =>
          new AccessTokenError({
            reason: "Timeout",
            message: `No access token came within ${Duration.format(timeout)}.`
          })
      }),
      Effect.flatMap(checked),
      Effect.zipWith(Clock.currentTimeMillis, keep),
      Effect.tap((renewed) => Effect.sync(() => void (kept = renewed)))
    )
    const current = Effect.flatMap(Clock.currentTimeMillis, (now) => {
      const isFresh = () => kept !== undefined && now < kept.renewAtMillis
      const inUse = Effect.suspend(() => {
        if (isFresh()) return Effect.succeed(kept!.token)
        // the old one is still good, so a renewal that fails is no reason to fail
        const old = kept !== undefined && now < kept.endsAtMillis ? kept : undefined
        return Effect.map(old === undefined ? renew : Effect.orElseSucceed(renew, () => old), ({ token }) => token)
      })
      return isFresh() ? inUse : semaphore.withPermits(1)(inUse)
    })
    const replace = (refused: Redacted.Redacted) =>
      semaphore.withPermits(1)(
        Effect.suspend(() =>
          kept !== undefined && kept.token !== refused
            ? Effect.succeed(kept.token)
            : Effect.map(renew, ({ token }) => (Redacted.value(token) === Redacted.value(refused) ? undefined : token))
        )
      )
    return { current, replace }
  })

/** Adds the token to requests, and tries once more with another one after a 401. */
export const authorized = (transport: Transport, tokens: Tokens): Transport => {
  const withToken =
    <A extends { readonly status: number }, R>(ask: (request: Request) => Effect.Effect<A, ObjectStoreError, R>) =>
    (request: Request): Effect.Effect<A, ObjectStoreError, R> => {
      const failed = ({ message, reason }: AccessTokenError) =>
        transport.fail(request, reason, `has no access token. ${message}`)
      const askWith = (token: Redacted.Redacted) =>
        ask({ ...request, headers: { ...request.headers, authorization: `Bearer ${Redacted.value(token)}` } })
      return Effect.flatMap(Effect.mapError(tokens.current, failed), (token) =>
        Effect.flatMap(askWith(token), (answer) =>
          answer.status === 401
            ? Effect.flatMap(Effect.mapError(tokens.replace(token), failed), (other) =>
                other === undefined ? Effect.succeed(answer) : askWith(other)
              )
            : Effect.succeed(answer)
        )
      )
    }
  return { fail: transport.fail, send: withToken(transport.send), open: withToken(transport.open) }
}
