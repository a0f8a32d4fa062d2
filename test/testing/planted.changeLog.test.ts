import { describe, it } from "@effect/vitest"
import type { Option } from "effect"
import { Effect } from "effect"
import type { Source } from "effect-periscope"
import type { ChangeLog } from "effect-periscope/log"
import type { ScriptedChangeLog } from "effect-periscope/testing"
import { Simulator } from "effect-periscope/testing"
import type { World } from "./changeLogs.js"
import { changeLog } from "./changeLogs.js"
import { breaks, holds } from "./simulation.js"

// Each mistake is planted by itself and has to be found; the same trial without it keeps all promises.
const bound = 300

type Definition = Source.Definition<number, unknown, never>

const simulate = (world: World, firstTrial: number, trials: number) =>
  Simulator.run({ mode: "log", subject: changeLog(world), changes: 12, firstTrial, trials })

const found = (name: string, sound: World, mistake: Pick<World, "log" | "definition">) =>
  it(`${name}, ${sound.order}`, { timeout: 120_000 }, async () => {
    const violation = await breaks(name, simulate({ ...sound, ...mistake }, 0, bound))
    await holds(`${name}, mended`, simulate(sound, violation.trial, 1))
  })

const sqlite: World = { order: "sqlite", prune: "registered" }
const postgres: World = { order: "postgres", prune: "registered" }

describe("planted mistakes of change logs", () => {
  // what is committed late under a smaller number lies in front of the cursor already
  const naive =
    (
      rowsOf: (scripted: ScriptedChangeLog.ScriptedChangeLog) => ReadonlyArray<ChangeLog.Row>
    ): NonNullable<World["log"]> =>
    (log, scripted) => ({
      ...log,
      read: (after, { limit = 1000 } = {}) =>
        Effect.sync((): ChangeLog.Page => {
          const rows = [...rowsOf(scripted)]
            .map((row) => ({ ...row, cursor: { seq: row.cursor.seq } }))
            .sort((a, b) => Number(a.cursor.seq - b.cursor.seq))
            .filter(({ cursor }) => cursor.seq > (after?.seq ?? 0n))
            .slice(0, limit)
          return { rows, cursor: rows[rows.length - 1]?.cursor ?? after ?? { seq: 0n }, more: rows.length >= limit }
        })
    })
  const unpruned: World = { ...postgres, prune: "never" }
  found("L5 a cursor that knows numbers only, of all that is committed", unpruned, {
    log: naive((all) => all.committed)
  })
  found("L5 a cursor that knows numbers only, behind the horizon", unpruned, { log: naive((all) => all.visible) })

  // the place behind a whole page is saved with the first commit of it
  const early = ({ poll }: Definition): Partial<Definition> => ({
    poll: (state: unknown, polled) =>
      Effect.map(poll(state, polled), (page) => ({ ...page, stateAfter: () => page.state }))
  })
  for (const world of [sqlite, postgres])
    found("the cursor is committed before the handler", world, { definition: early })

  const skipping = ({ change }: Definition): Partial<Definition> => ({
    change: (stored) =>
      Effect.catchAll(change!(stored), () => Effect.succeedNone as Effect.Effect<Option.Option<never>>)
  })
  found("L8 a poison row is skipped, not parked", sqlite, { definition: skipping })

  const short = ({ poll }: Definition): Partial<Definition> => ({
    poll: (state: unknown, polled) => Effect.map(poll(state, polled), (page) => ({ ...page, more: false }))
  })
  found("L2 a full page is taken for the last one", sqlite, { definition: short })

  const hasty = ({ poll }: Definition): Partial<Definition> => ({
    poll: (state: unknown, polled) => poll(state, { ...polled, committed: state })
  })
  for (const world of [sqlite, postgres])
    found("L7 what was polled is registered, not what is committed", world, { definition: hasty })

  // entries that are gone are stepped over
  const silent: World["log"] = (log) => ({
    ...log,
    read: (after, options) =>
      Effect.catchTag(log.read(after, options), "CursorExpired", () =>
        Effect.map(log.head, (cursor): ChangeLog.Page => ({ rows: [], cursor, more: false }))
      )
  })
  found("L6 entries that are gone are skipped in silence", { ...sqlite, prune: "past" }, { log: silent })

  const deaf = (): Partial<Definition> => ({ parks: undefined })
  found("L8 a poison row blocks the log for good", sqlite, { definition: deaf })
})
