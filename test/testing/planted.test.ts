import { assert, describe, it } from "@effect/vitest"
import { Effect, Option, Schema } from "effect"
import { Change, Source } from "effect-periscope"
import { ScriptedSource, Simulator } from "effect-periscope/testing"
import { DeliveryRules } from "../../src/core/delivery.js"
import type { Rules } from "../../src/core/ledger.js"
import { commit, rules } from "../../src/core/ledger.js"
import { breaks, holds } from "./simulation.js"

// Each mistake is planted by itself and has to be found; the same trials without it keep all promises.
const bound = 300

type Simulation = Parameters<typeof Simulator.run<number, unknown>>[0]

const document: Simulation = { mode: "document", subject: Simulator.document(), trials: bound }
const listing: Simulation = { mode: "listing", subject: Simulator.listing(), trials: bound }
const log: Simulation = { mode: "log", subject: Simulator.log(), trials: bound }

const plant = (name: string, mistake: Partial<Rules>, simulation: Simulation) =>
  it(`${simulation.mode}: ${name}`, { timeout: 120_000 }, async () => {
    const planted = Effect.provideService(Simulator.run(simulation), DeliveryRules, { ...rules, ...mistake })
    const violation = await breaks(`${simulation.mode}: ${name}`, planted)
    const firstTrial = violation.trial
    await holds(`${name}, mended`, Simulator.run({ ...simulation, firstTrial, trials: 1 }))
    // it says all that is needed to see it again
    const again = Simulator.run({ ...simulation, firstTrial, trials: 1 })
    const same = await breaks("the same trial", Effect.provideService(again, DeliveryRules, { ...rules, ...mistake }))
    assert.deepStrictEqual([same.rule, same.trace], [violation.rule, violation.trace])
  })

describe("planted mistakes of delivery", () => {
  // the record says that the change is known before it says that it is to be delivered
  const saveBeforeAccept: Partial<Rules> = {
    toAccept: (before, accepted) => [{ ...before, durable: accepted.durable, synced: accepted.synced }, accepted]
  }
  plant("state saved before its batch", saveBeforeAccept, document)
  plant("state saved before its batch", saveBeforeAccept, listing)

  const noOutbox: Partial<Rules> = { outbox: () => [] }
  plant("no outbox", noOutbox, document)
  plant("no outbox", noOutbox, listing)

  // handed out although nothing was saved
  plant("a batch is handed out unsaved", { toAccept: () => [] }, document)
  plant("a batch is handed out unsaved", { toAccept: () => [] }, listing)

  // a commit counts for everything before it
  const takesMaximum: Partial<Rules> = {
    commit: (ledger, batches) => {
      const last = Math.max(ledger.prefix, ...batches)
      return commit(
        ledger,
        Array.from({ length: last }, (_, index) => index + 1)
      )
    }
  }
  plant("a commit takes all before it along", takesMaximum, document)
  plant("a commit takes all before it along", takesMaximum, listing)
  plant("a commit takes all before it along", takesMaximum, log)

  // a batch above the prefix leaves the outbox alone
  const dropsAlone: Partial<Rules> = {
    outbox: (ledger) =>
      ledger.groups.filter(({ changes, first, size }) => {
        const count = Math.ceil(changes.length / size)
        return !Array.from({ length: count }, (_, index) => first + index).every((n) => ledger.above.includes(n))
      })
  }
  const savesAbove: Partial<Rules> = {
    ...dropsAlone,
    // the save that a commit above the prefix does not need
    commit: (ledger, batches) => {
      const next = commit(ledger, batches)
      return next === ledger ? next : { ...next, parked: [...next.parked] }
    }
  }
  plant("a commit drops its batch alone", savesAbove, document)
  plant("a commit drops its batch alone", savesAbove, listing)

  // the record is saved as if all that was handed out were committed already
  const commitsEarly: Partial<Rules> = {
    toAccept: (_, accepted) => [commit(accepted, [accepted.next - 1])]
  }
  plant("committed before the handler returned", commitsEarly, document)
})

describe("planted mistakes of sources", () => {
  const found = (name: string, simulation: Simulation, mended: Simulation) =>
    it(`${simulation.mode}: ${name}`, { timeout: 120_000 }, async () => {
      const violation = await breaks(`${simulation.mode}: ${name}`, Simulator.run(simulation))
      await holds(`${name}, mended`, Simulator.run({ ...mended, firstTrial: violation.trial, trials: 1 }))
    })

  // a page that breaks off is taken for the last one
  const partial = Simulator.listing((remote) =>
    ScriptedSource.listing(
      {
        ...remote,
        page: (after) =>
          Effect.catchIf(
            remote.page(after),
            (error) => error._tag === "RemoteError" && error.reason === "Truncated",
            () => Effect.succeed({ items: [] })
          )
      },
      { item: Schema.Number }
    )
  )
  const emitting: Simulation = { ...listing, watch: { initial: "emit" } }
  found("removals out of a partial walk", { ...emitting, subject: partial, trials: 3 * bound }, emitting)

  // the validator of a body that breaks off is kept, and hides the version behind it
  const hasty = Simulator.document((remote) => {
    type Found = Source.Poll<number, number | null>
    const etags = new Map<string, string>()
    return Source.make<number | null, number, ScriptedSource.Failure, never, number | null, number>({
      name: "document",
      state: Schema.NullOr(Schema.Number),
      item: Schema.Number,
      initial: null,
      poll: (known) =>
        Effect.flatMap(
          remote.fetch("document", known === null ? undefined : etags.get("document")),
          (response): Effect.Effect<Found, ScriptedSource.Failure> => {
            if (response.status === 304) return Effect.succeed({ changes: [], state: known })
            if (response.status === 404) {
              etags.clear()
              const gone = known === null ? [] : [Change.removed("document", Option.some(known))]
              return Effect.succeed({ changes: gone, state: null })
            }
            etags.set("document", response.etag)
            return Effect.map(response.body, (value) => ({
              changes: [
                known === null
                  ? Change.added("document", value)
                  : Change.modified("document", value, Option.some(known))
              ],
              state: value
            }))
          }
        )
    })
  })
  found("validator stored before the body is decoded", { ...document, subject: hasty }, document)

  // the place behind a page is one row too far
  const skipping = Simulator.log((remote) =>
    ScriptedSource.log(
      {
        ...remote,
        read: (after, limit) =>
          Effect.map(remote.read(after, limit), (rows) =>
            rows.map((row, index) => ({
              ...row,
              key: String(row.cursor),
              cursor: index === 3 ? row.cursor + 1 : row.cursor
            }))
          )
      },
      { item: Schema.Number, limit: 4 }
    )
  )
  found("a cursor that steps over a row", { ...log, subject: skipping }, log)
})
