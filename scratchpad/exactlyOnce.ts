/**
 * Orders are noted in a log within the transaction that takes them; a table of sums follows it. The sums and the place in the log are
 * committed in one transaction: however often the reader is cut short, each order is counted once.
 */
import { SqlClient } from "@effect/sql"
import { SqliteClient } from "@effect/sql-sqlite-node"
import { Console, Effect, Fiber, Layer, Schedule, Schema } from "effect"
import { ChangeLog, ChangeLogSource } from "effect-periscope/log"
import * as SqlChangeLog from "effect-periscope/log/SqlChangeLog"
import * as SqlCheckpoints from "effect-periscope/log/SqlCheckpoints"
import { mkdtempSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"

const filename = join(mkdtempSync(join(tmpdir(), "periscope-")), "shop.db")
const customers = ["ada", "bob", "eve"]

const takeOrder = (customer: string, cents: number) =>
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    const log = yield* ChangeLog.ChangeLog
    yield* log.transaction(
      Effect.gen(function* () {
        yield* sql`INSERT INTO orders (customer, cents) VALUES (${customer}, ${cents})`
        yield* log.append({ entity: customer, kind: "ordered", data: { cents } })
      })
    )
  })

const orders = ChangeLogSource.make({ schema: Schema.Struct({ cents: Schema.Number }), kinds: ["ordered"] })

const count = SqlCheckpoints.runTransactional(
  orders,
  (change) =>
    Effect.gen(function* () {
      if (change._tag !== "Added") return
      const sql = yield* SqlClient.SqlClient
      const { data, entity } = change.value
      yield* sql`INSERT INTO sums (customer, cents) VALUES (${entity}, ${data.cents}) ON CONFLICT (customer) DO UPDATE SET cents = cents + excluded.cents`
      yield* Effect.sleep("1 millis") // some more work, in the middle of which it is cut short
    }),
  { checkpoint: "sums", batchSize: 5, interval: "1 second" }
)

const program = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  yield* sql`CREATE TABLE orders (customer TEXT, cents INTEGER)`
  yield* sql`CREATE TABLE sums (customer TEXT PRIMARY KEY, cents INTEGER)`
  for (let n = 0; n < 200; n++) yield* takeOrder(customers[n % 3]!, n)
  for (let run = 1; run <= 10; run++) {
    const fiber = yield* Effect.fork(count)
    yield* Effect.sleep("60 millis")
    yield* Fiber.interrupt(fiber)
    const [sum] = yield* sql<{ cents: number }>`SELECT coalesce(sum(cents), 0) AS cents FROM sums`
    yield* Console.log(`cut short ${run} times: ${sum?.cents} cents are counted`)
  }
  const fiber = yield* Effect.fork(count)
  const rest = sql<{ cents: number }>`SELECT sum(cents) AS cents FROM sums`
  const [sum] = yield* rest.pipe(
    Effect.repeat({ until: ([found]) => found?.cents === 19_900, schedule: Schedule.spaced("50 millis") }),
    Effect.zipRight(Effect.sleep("300 millis")),
    Effect.zipRight(rest),
    Effect.timeout("20 seconds")
  )
  yield* Fiber.interrupt(fiber)
  yield* Console.log(`in the end ${sum?.cents} of 19900 cents are counted`)
})

const services = SqlChangeLog.layer().pipe(Layer.provideMerge(SqliteClient.layer({ filename })))

await Effect.runPromise(program.pipe(Effect.provide(services)))
