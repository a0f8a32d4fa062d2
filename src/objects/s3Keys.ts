/**
 * Keeps the keys that sign requests until they are about to end or are refused. Many that want new ones at once wait for the
 * same.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type { Keys } from "./s3Signing.js"

export interface TemporaryKeys extends Keys {
  readonly expiresAtMillis?: number | undefined
}

export interface KeyRing<E> {
  /** Whether there can be others than these. */
  readonly isRenewable: boolean
  /** The keys in use, or new ones where there are none or they are about to end. */
  readonly current: Effect.Effect<Keys, E>
  /** Gets others than those that were refused. */
  readonly replace: (refused: Keys) => Effect.Effect<void, E>
}

/** How long before their end keys are renewed, unless their life is shorter than twice that. */
const marginMillis = 5 * 60 * 1000

interface Kept {
  readonly keys: Keys
  readonly renewAtMillis: number
  readonly endsAtMillis: number
}

export const make = <E>(fetch: Effect.Effect<TemporaryKeys, E>): Effect.Effect<KeyRing<E>> =>
  Effect.map(Effect.makeSemaphore(1), (semaphore) => {
    let kept: Kept | undefined
    const renew = Effect.gen(function* () {
      const keys = yield* fetch
      const nowMillis = yield* Clock.currentTimeMillis
      const endsAtMillis = keys.expiresAtMillis ?? Infinity
      const margin = Math.min(marginMillis, Math.max(0, endsAtMillis - nowMillis) / 2)
      kept = { keys, endsAtMillis, renewAtMillis: endsAtMillis - margin }
      return keys
    })
    const isFresh = (nowMillis: number) => kept !== undefined && nowMillis < kept.renewAtMillis
    const current = Effect.flatMap(Clock.currentTimeMillis, (nowMillis) =>
      isFresh(nowMillis)
        ? Effect.succeed(kept!.keys)
        : semaphore.withPermits(1)(
            Effect.suspend(() => {
              if (isFresh(nowMillis)) return Effect.succeed(kept!.keys)
              // the old ones are still good, so a renewal that fails is no reason to fail
              const old = kept !== undefined && nowMillis < kept.endsAtMillis ? kept.keys : undefined
              return old === undefined ? renew : Effect.orElseSucceed(renew, () => old)
            })
          )
    )
    const replace = (refused: Keys) =>
      semaphore.withPermits(1)(Effect.suspend(() => (kept?.keys === refused ? Effect.asVoid(renew) : Effect.void)))
    return { isRenewable: true, current, replace }
  })

/** Keys that never change. */
export const fixed = (keys: Keys): KeyRing<never> => ({
  isRenewable: false,
  current: Effect.succeed(keys),
  replace: () => Effect.void
})
