import { assert, describe, it } from "@effect/vitest"
import { Cause, Effect, Exit, Fiber, Option, TestClock } from "effect"
import { ChangeLog } from "effect-periscope/log"
import { ScriptedChangeLog } from "effect-periscope/testing"

const entry = (entity: string): ScriptedChangeLog.Entry => ({ entity, kind: "k" })

const seqs = (rows: ReadonlyArray<ChangeLog.Row>): ReadonlyArray<number> => rows.map(({ cursor }) => Number(cursor.seq))

describe("ScriptedChangeLog", () => {
  it.effect("every reason and an error of one's own is a fault of every operation, once, and is recorded", () =>
    Effect.gen(function* () {
      const { calls, failNext, log } = yield* ScriptedChangeLog.make({ entries: [entry("a")] })
      const own = new ChangeLog.ChangeLogError({ reason: "Rejected", log: "changes", message: "own" })
      for (const fault of ["Unavailable", "MissingTable", "UnsafeTable", "Rejected", own] as const) {
        failNext(fault, 7)
        const operations: ReadonlyArray<Effect.Effect<unknown, ChangeLog.ChangeLogError | ChangeLog.CursorExpired>> = [
          log.append(entry("b")),
          log.read(undefined),
          log.start,
          log.head,
          log.prune(),
          log.register("reader", { seq: 1n }),
          log.consumers
        ]
        for (const operation of operations) {
          const error = yield* Effect.flip(operation)
          assert.strictEqual("reason" in error && error.reason, typeof fault === "string" ? fault : "Rejected")
        }
      }
      assert.deepStrictEqual(
        calls.slice(-7).map(({ operation }) => operation),
        ["append", "read", "start", "head", "prune", "register", "consumers"]
      )
      assert.deepStrictEqual(seqs((yield* log.read(undefined)).rows), [1])
    })
  )

  it.effect("pages are cut, late or never come, and a call that is not in the script dies", () =>
    Effect.gen(function* () {
      const { add, log } = yield* ScriptedChangeLog.make({
        entries: ["a", "b", "c"].map(entry),
        replies: ["partial", "slow", "hang"],
        slow: "10 seconds"
      })
      const half = yield* log.read(undefined, { limit: 2 })
      assert.deepStrictEqual([seqs(half.rows), half.more], [[1], true])
      const slow = yield* Effect.fork(log.read(undefined))
      yield* TestClock.adjust("5 seconds")
      add(entry("d"))
      yield* TestClock.adjust("5 seconds")
      assert.deepStrictEqual(seqs((yield* Fiber.join(slow)).rows), [1, 2, 3])
      const hanging = yield* Effect.fork(log.head)
      yield* TestClock.adjust("1 day")
      assert.isTrue(Option.isNone(yield* Fiber.poll(hanging)))
      const more = yield* Effect.exit(log.head)
      assert.match(Cause.pretty(Option.getOrThrow(Exit.causeOption(more))), /call 4 \(head\) is not in the script/)
    })
  )

  it.effect("L5 postgres: numbers early, commits late, nothing behind the oldest open transaction is seen", () =>
    Effect.gen(function* () {
      const { begin, committed, log } = yield* ScriptedChangeLog.make({ order: "postgres" })
      assert.strictEqual(committed.length, 0)
      const [one, two, three] = [begin(), begin(), begin()]
      two.append(entry("two"))
      one.append(entry("one"))
      three.append(entry("three"))
      two.commit()
      three.rollback()
      assert.deepStrictEqual(seqs((yield* log.read(undefined)).rows), [])
      const head = yield* log.head
      one.append(entry("one"))
      one.commit()
      assert.deepStrictEqual(seqs((yield* log.read(undefined)).rows), [2, 4, 1])
      assert.deepStrictEqual(seqs((yield* log.read(head)).rows), [2, 4, 1])
      // a number that was rolled back is not given again
      assert.strictEqual(yield* log.append(entry("five")), 5n)
      const { cursor } = yield* log.read(undefined, { limit: 1 })
      assert.deepStrictEqual(seqs((yield* log.read(cursor)).rows), [4, 1, 5])
    })
  )

  it.effect("L4 sqlite: one transaction at a time; a rolled back number is given again", () =>
    Effect.gen(function* () {
      const { add, begin, log } = yield* ScriptedChangeLog.make()
      const open = begin()
      open.append(entry("gone"))
      assert.throws(begin, /SQLite has one at a time/)
      assert.strictEqual((yield* log.head).seq, 0n)
      open.rollback()
      assert.throws(() => open.append(entry("late")), /has ended/)
      assert.deepStrictEqual(add(entry("a"), entry("b")), [1n, 2n])
      const error = yield* Effect.flip(
        log.transaction(Effect.zipRight(log.append(entry("c")), Effect.fail("no" as const)))
      )
      assert.deepStrictEqual([error, seqs((yield* log.read(undefined)).rows)], ["no", [1, 2]])
    })
  )

  it.effect("L6 L7 it prunes, keeps what consumers need, and goes back to a backup", () =>
    Effect.gen(function* () {
      const scripted = yield* ScriptedChangeLog.make({ entries: ["a", "b", "c", "d"].map(entry) })
      const { add, backup, log, pruneUpTo } = scripted
      const { cursor } = yield* log.read(undefined, { limit: 2 })
      assert.deepStrictEqual(yield* log.prune(), { removed: 0, slowest: undefined })
      yield* log.register("reader", cursor)
      assert.strictEqual((yield* log.prune()).removed, 2)
      assert.deepStrictEqual(seqs((yield* log.read(cursor)).rows), [3, 4])
      const restore = backup()
      add(entry("e"))
      pruneUpTo(4n)
      const pruned = yield* Effect.flip(log.read(cursor))
      assert.strictEqual(
        pruned.message,
        "changes: entries behind 2 are gone (it was pruned); the log holds those behind 4, up to 5."
      )
      const { cursor: last } = yield* log.read(undefined)
      restore()
      assert.match((yield* Effect.flip(log.read(last))).message, /the log ends before it/)
      add(entry("x"))
      assert.match((yield* Effect.flip(log.read(last))).message, /another entry has its number/)
      assert.deepStrictEqual(seqs(scripted.visible), [3, 4, 5])
    })
  )
})
