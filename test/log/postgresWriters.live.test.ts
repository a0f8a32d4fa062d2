/**
 * The proof of rule L5: writers that overlap, and a reader that watches while they write. Entries become visible out of the order
 * of their numbers; the reader behind the horizon gets each once, one that goes by number alone loses some.
 */
import type * as SqlClient from "@effect/sql/SqlClient"
import { assert } from "@effect/vitest"
import { Checkpoints, Watcher } from "effect-periscope"
import { ChangeLog, ChangeLogSource } from "effect-periscope/log"
import { Effect, Fiber } from "effect"
import { onPostgres, withLog } from "./onPostgres.js"

/**
 * One writer: transactions of `size` entries, with waits between the first number and the commit; every tenth is rolled back. Some
 * have their transaction number long before their first entry, so that the orders of the two differ as well.
 */
const procedure = `CREATE PROCEDURE write(writer int, transactions int, size int, pace float8) LANGUAGE plpgsql AS $$
BEGIN
  FOR t IN 1..transactions LOOP
    IF random() < 0.3 THEN
      PERFORM pg_current_xact_id();
      PERFORM pg_sleep(random() * 0.004 * pace);
    END IF;
    INSERT INTO periscope_changes (entity, kind, data) VALUES ('w' || writer, 'put', t || ':0');
    PERFORM pg_sleep(random() * 0.006 * pace);
    INSERT INTO periscope_changes (entity, kind, data)
      SELECT 'w' || writer, 'put', t || ':' || n FROM generate_series(1, size - 1) AS n;
    IF random() < 0.5 THEN PERFORM pg_sleep(random() * 0.004 * pace); END IF;
    IF random() < 0.1 THEN ROLLBACK; ELSE COMMIT; END IF;
  END LOOP;
END $$`

const size = 25

const write = (sql: SqlClient.SqlClient, writers: number, entries: number, pace: number) =>
  Effect.zipRight(
    sql.unsafe(procedure),
    Effect.forEach(
      Array.from({ length: writers }, (_, n) => n),
      (n) => sql.unsafe(`CALL write(${n}, ${Math.ceil(entries / 0.9 / size / writers)}, ${size}, ${pace})`),
      { concurrency: "unbounded", discard: true }
    )
  )

/** What others do: the next rows behind the greatest number that was seen. */
const readByNumber = (sql: SqlClient.SqlClient, seen: Set<string>) =>
  Effect.gen(function* () {
    let last = "0"
    while (true) {
      const rows = yield* sql.unsafe<{ readonly seq: string }>(
        "SELECT seq FROM periscope_changes WHERE seq > $1 ORDER BY seq LIMIT 1000",
        [last]
      )
      for (const { seq } of rows) seen.add(seq)
      last = rows.at(-1)?.seq ?? last
      yield* Effect.sleep("1 millis")
    }
  })

const committed = (sql: SqlClient.SqlClient) =>
  Effect.map(
    sql.unsafe<{ readonly seq: string }>("SELECT seq FROM periscope_changes"),
    (rows) => new Set(rows.map(({ seq }) => seq))
  )

const source = ChangeLogSource.make()

onPostgres("overlapping writers in PostgreSQL", (server) => {
  for (const writers of [8, 32]) {
    withLog(
      `L5 ${writers} of them: a watcher gets every committed entry once; by number alone some are lost`,
      server,
      ({ log, sql }) =>
        Effect.gen(function* () {
          const delivered: Array<string> = []
          const byNumber = new Set<string>()
          const began = Date.now()
          const watching = yield* Effect.fork(
            Watcher.runForEachBatch(
              source,
              ({ changes }) => Effect.sync(() => void delivered.push(...changes.map(({ key }) => key))),
              { interval: "5 millis" }
            ).pipe(Effect.provideService(ChangeLog.ChangeLog, log))
          )
          const naive = yield* Effect.fork(readByNumber(sql, byNumber))
          yield* write(sql, writers, 100_000, writers / 6)
          const written = Date.now() - began
          const during = delivered.length
          const all = yield* committed(sql)
          // as long as it takes: what is missing after that never comes
          for (let wait = 0; wait < 200 && (delivered.length < all.size || wait < 20); wait++)
            yield* Effect.sleep("25 millis")
          yield* Fiber.interrupt(watching)
          yield* Fiber.interrupt(naive)

          const once = new Set(delivered)
          const lost = [...all].filter((seq) => !once.has(seq)).length
          const strange = delivered.filter((seq) => !all.has(seq)).length
          const skipped = [...all].filter((seq) => !byNumber.has(seq)).length
          console.log(
            `L5 ${writers} writers, ${all.size} entries in ${written} ms: the watcher got ${during} while they wrote, lost ${lost}, repeated ${delivered.length - once.size}; by number alone ${skipped} were lost (${((100 * skipped) / all.size).toFixed(1)} %)`
          )
          assert.isAbove(all.size, 90_000)
          assert.isAbove(during, all.size / 4, "it read while they wrote")
          assert.strictEqual(lost, 0)
          assert.strictEqual(delivered.length - once.size, 0, "repeated")
          assert.strictEqual(strange, 0, "rolled back")
          assert.isAbove(skipped, 0, "the writers did not overlap: the test would not have seen a loss")
        }),
      {},
      60_000
    )
  }

  withLog(
    "L5 L3 a reader that is stopped and started again loses nothing, and repeats only what it had not committed",
    server,
    ({ log, sql }) =>
      Effect.gen(function* () {
        const handled: Array<string> = []
        const checkpoints = yield* Checkpoints.makeMemory
        let done = false
        let starts = 0
        const writing = yield* Effect.fork(
          Effect.ensuring(
            write(sql, 16, 30_000, 10),
            Effect.sync(() => void (done = true))
          )
        )
        const watch = Watcher.runForEachBatch(
          ChangeLogSource.make({ limit: 200, consumer: "reader" }),
          ({ changes }) =>
            Effect.zipRight(
              Effect.sync(() => void handled.push(...changes.map(({ key }) => key))),
              Effect.sleep("2 millis")
            ),
          { interval: "5 millis", checkpoint: "reader" }
        ).pipe(
          Effect.provideService(ChangeLog.ChangeLog, log),
          Effect.provideService(Checkpoints.Checkpoints, checkpoints)
        )
        while (!done) {
          starts += 1
          yield* Effect.timeoutOption(watch, 50 + ((starts * 37) % 150))
        }
        yield* Fiber.join(writing)
        yield* Watcher.once(ChangeLogSource.make(), { checkpoint: "reader" }).pipe(
          Effect.map((changes) => handled.push(...changes.map(({ key }) => key))),
          Effect.provideService(ChangeLog.ChangeLog, log),
          Effect.provideService(Checkpoints.Checkpoints, checkpoints)
        )
        const all = yield* committed(sql)
        const once = new Set(handled)
        const lost = [...all].filter((seq) => !once.has(seq)).length
        console.log(`${starts} starts, ${all.size} entries: lost ${lost}, repeated ${handled.length - once.size}`)
        assert.isAbove(starts, 5)
        assert.strictEqual(lost, 0)
        // each end can strike once between a batch of 200 and its commit
        assert.isAtMost(handled.length - once.size, starts * 200)
      }),
    {},
    30_000
  )
})
