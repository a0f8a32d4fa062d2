/** The subject of simulations of change logs: writers, poison rows, retention and hints over a scripted log. */
import { Context, Effect, ParseResult, Schema } from "effect"
import { Source } from "effect-periscope"
import { ChangeLog, ChangeLogSource } from "effect-periscope/log"
import type { Simulator } from "effect-periscope/testing"
import { ScriptedChangeLog } from "effect-periscope/testing"

type Log = typeof ChangeLog.ChangeLog.Service

/** What a mistake can be planted in. */
export interface Mistakes {
  readonly log?: (log: Log, scripted: ScriptedChangeLog.ScriptedChangeLog) => Log
  readonly definition?: (
    definition: Source.Definition<number, unknown, never>
  ) => Partial<Source.Definition<number, unknown, never>>
}

export interface World extends Mistakes {
  readonly order: "sqlite" | "postgres"
  /** `"registered"`: what no consumer needs; `"past"`: also what they have not read, until somebody puts it back. */
  readonly prune: "registered" | "past" | "never"
}

const decodes = (stage: Simulator.Stage) =>
  Schema.transformOrFail(Schema.Union(Schema.Number, Schema.Struct({ poison: Schema.Number })), Schema.Number, {
    decode: (stored, _, ast) =>
      typeof stored === "number"
        ? ParseResult.succeed(stored)
        : stage.fault("poison row", 1)
          ? ParseResult.fail(new ParseResult.Type(ast, stored))
          : ParseResult.succeed(stored.poison),
    encode: (value) => ParseResult.succeed(value)
  })

const readFaults: ReadonlyArray<ScriptedChangeLog.Fault> = ["Unavailable", "hang", "slow", "defect", "partial"]

const replying =
  (stage: Simulator.Stage) =>
  ({ operation }: ScriptedChangeLog.Call): ScriptedChangeLog.Reply => {
    if (operation === "register") return stage.fault("register fails", 4 * stage.faults) ? "Unavailable" : "answer"
    if (operation !== "read" && operation !== "start" && operation !== "head") return "answer"
    const fault = stage.chance.pick(readFaults)
    return stage.fault(`${operation} ${String(fault)}`, 4 * stage.faults) ? fault : "answer"
  }

/** Writers that begin, append, commit late and out of order, and roll back. */
const writers = (
  scripted: ScriptedChangeLog.ScriptedChangeLog,
  stage: Simulator.Stage,
  most: number,
  poison: Set<string>
) => {
  const open: Array<ScriptedChangeLog.Transaction> = []
  let written = 0
  const append = (transaction: ScriptedChangeLog.Transaction): void => {
    const n = ++written
    const isPoison = stage.chance.happens(0.12)
    const seq = transaction.append({
      entity: `e${stage.chance.below(3)}`,
      kind: "k",
      data: isPoison ? { poison: n } : n
    })
    if (isPoison) poison.add(String(seq))
    else poison.delete(String(seq))
  }
  const take = (): ScriptedChangeLog.Transaction => open.splice(stage.chance.below(open.length), 1)[0]!
  return (): void => {
    const { chance } = stage
    if (open.length < most && chance.happens(0.7)) open.push(scripted.begin())
    for (const transaction of open) if (chance.happens(0.7)) append(transaction)
    while (open.length > 0 && chance.happens(open.length === most ? 0.8 : 0.5)) {
      const isFirst = open.length
      const transaction = take()
      if (isFirst > 1) stage.fault("several transactions open", 1)
      if (chance.happens(0.2)) {
        stage.fault("rollback", 1)
        transaction.rollback()
      } else transaction.commit()
    }
  }
}

/** A log that says that entries are gone, and gets them back. */
const retained = (
  log: Log,
  stage: Simulator.Stage,
  isBefore: (cursor: ChangeLog.Cursor) => boolean,
  restore: () => void
) => {
  const read: Log["read"] = (after, options) =>
    Effect.suspend(() => {
      if (after === undefined || !isBefore(after)) return log.read(after, options)
      if (stage.fault("read behind what was pruned", 0.6)) {
        stage.mayEnd("entries are gone")
        return new ChangeLog.CursorExpired({ log: log.name, requested: after, why: "it was pruned" })
      }
      restore()
      return log.read(after, options)
    })
  return { ...log, read }
}

/** Makes the subject. */
export const changeLog =
  (world: World) =>
  (stage: Simulator.Stage): Simulator.Subject<number, unknown> => {
    const poison = new Set<string>()
    const scripted = Effect.runSync(
      ScriptedChangeLog.make({
        order: world.order,
        replies: replying(stage),
        hints: () => (stage.fault("hint lost", 0.3) ? 0 : stage.fault("hint doubled", 0.3) ? 2 : 1)
      })
    )
    const write = writers(scripted, stage, world.order === "sqlite" ? 1 : 3, poison)
    const rows = new Map<string, number>()
    const notice = (): void => {
      for (const { cursor, data } of scripted.visible) {
        const key = String(cursor.seq)
        if (rows.has(key)) continue
        const value = JSON.parse(data!) as number | { readonly poison: number }
        rows.set(key, typeof value === "number" ? value : value.poison)
      }
    }
    let gone: ReadonlySet<string> = new Set()
    const pastLog = retained(
      scripted.log,
      stage,
      ({ seq, xid }) =>
        scripted.visible.some(
          ({ cursor }) =>
            gone.has(String(cursor.seq)) &&
            (cursor.xid !== undefined && xid !== undefined && cursor.xid !== xid ? cursor.xid > xid : cursor.seq > seq)
        ),
      () => (gone = new Set())
    )
    const kept = world.prune === "past" ? pastLog : scripted.log
    const planted = world.log?.(kept, scripted) ?? kept
    const log: Log = {
      ...planted,
      read: (after, options) => Effect.tap(planted.read(after, options), stage.point("answered")),
      register: (consumer, cursor) =>
        Effect.zipRight(stage.point("register"), planted.register(consumer, cursor)).pipe(
          Effect.tap(stage.point("registered"))
        )
    }
    const prune = (): void => {
      if (world.prune === "never") return
      if (world.prune === "past") {
        const upTo = stage.chance.below(rows.size + 1)
        gone = new Set([...rows.keys()].slice(0, upTo))
        return
      }
      const { removed } = Effect.runSync(Effect.orDie(scripted.log.prune()))
      if (removed > 0) stage.fault("pruned", 1)
    }
    const source = ChangeLogSource.make({
      schema: decodes(stage),
      limit: 4,
      consumer: "reader",
      onUndecodable: "park",
      timeout: "2 minutes"
    })
    const { definition } = Source.provideContext(
      Source.map(source, ({ data }) => data),
      Context.make(ChangeLog.ChangeLog, log)
    )
    return {
      source: Source.fromDefinition<number, unknown, never>({ ...definition, ...world.definition?.(definition) }),
      change: () => {
        write()
        if (stage.chance.happens(0.25)) prune()
        if (stage.chance.happens(0.1)) scripted.poke()
        notice()
      },
      current: () => rows,
      isPoison: (key) => poison.has(key),
      seesAll: true
    }
  }
