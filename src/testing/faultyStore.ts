/**
 * A store of checkpoints as one life of a watcher sees it: it crashes, fails, forgets to answer and answers late. A dead life
 * cannot write.
 */
import * as Effect from "effect/Effect"
import type { Checkpoints, Claim, Save } from "../core/Checkpoints.js"
import { CheckpointError } from "../core/Checkpoints.js"
import type { Incarnation } from "./incarnation.js"

export interface StoreHost {
  readonly point: (label: string) => Effect.Effect<void>
  readonly fault: (kind: string, probability: number) => boolean
  readonly below: (n: number) => number
  /** A save was applied; whether the watcher hears of it. */
  readonly saved: (head: string, isAnswered: boolean) => void
  readonly trace: (line: () => string) => void
}

export interface StoreFaults {
  readonly rate: number
  readonly saveTimeout: number
}

const failure = (reason: "Unavailable" | "Fenced", message: string): CheckpointError =>
  new CheckpointError({ reason, checkpoint: "simulated", message })

const dead = failure("Fenced", "this life has ended")

const faultySave = (
  claim: Claim,
  life: Incarnation,
  host: StoreHost,
  { rate, saveTimeout }: StoreFaults,
  save: Save
): Effect.Effect<void, CheckpointError> => {
  const apply = (isAnswered: boolean): Effect.Effect<void, CheckpointError> =>
    Effect.suspend(() =>
      life.isAlive
        ? Effect.map(claim.save(save), () => {
            host.trace(() => `  store: revision ${save.rev} applied`)
            host.saved(save.head, isAnswered)
          })
        : dead
    )
  /** Sleeps, then lands; or, if the process dies meanwhile, perhaps lands all the same. */
  const late = (millis: number): Effect.Effect<void, CheckpointError> =>
    Effect.suspend(() => {
      const lands = (): void => {
        if (host.fault("save lands after a crash", 0.5)) {
          host.trace(() => `  store: revision ${save.rev} lands although its process is dead`)
          Effect.runSync(Effect.ignore(Effect.tap(claim.save(save), () => host.saved(save.head, false))))
        }
      }
      life.inFlight.add(lands)
      return Effect.zipRight(
        Effect.sleep(millis),
        Effect.suspend(() => {
          life.inFlight.delete(lands)
          return apply(millis < saveTimeout)
        })
      )
    })
  return Effect.suspend(() => {
    host.trace(() => `  store: save of revision ${save.rev}`)
    if (host.fault("save unavailable", rate)) return failure("Unavailable", "the store is away")
    if (host.fault("save applied, answer lost", rate)) {
      return Effect.zipRight(apply(false), failure("Unavailable", "the answer was lost"))
    }
    if (host.fault("save times out and lands later", rate)) {
      return late(saveTimeout + host.below(3 * saveTimeout))
    }
    return host.fault("save slow", rate) ? late(1 + host.below(saveTimeout - 1)) : apply(true)
  })
}

export const make = (
  store: Checkpoints["Type"],
  life: Incarnation,
  host: StoreHost,
  faults: StoreFaults
): Checkpoints["Type"] => ({
  ...store,
  claim: (checkpoint) =>
    Effect.gen(function* () {
      yield* host.point("claim")
      if (!life.isAlive) return yield* dead
      if (host.fault("claim unavailable", faults.rate / 4)) {
        life.mayEnd = "claim unavailable"
        return yield* failure("Unavailable", "the store is away")
      }
      const claim = yield* store.claim(checkpoint)
      yield* host.point("claimed")
      return {
        ...claim,
        save: (save) =>
          Effect.zipRight(host.point("save"), faultySave(claim, life, host, faults, save)).pipe(
            Effect.tap(host.point("saved"))
          )
      }
    })
})
