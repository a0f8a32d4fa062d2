/**
 * A bucket of a million keys through the command line: killed with `kill -9` and started again, it reports what changed meanwhile
 * and nothing else, within a bounded memory. The server is a double that makes up its pages; the run takes a minute or two.
 */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Option } from "effect"
import { readFileSync } from "node:fs"
import { createServer } from "node:http"
import { folder, start } from "./periscope.js"

const million = 1_000_000
const pageSize = 1000

const name = (index: number): string => `logs/2026/11/21/part-${String(index).padStart(9, "0")}.parquet`

/** Lists a million objects, but for what is set. */
class Bucket {
  readonly etags = new Map<number, string>()
  readonly gone = new Set<number>()
  /** How many walks came to their end. */
  walks = 0
  pages = 0

  page(url: URL): string {
    const from = Number(url.searchParams.get("continuation-token") ?? 0)
    const to = Math.min(from + pageSize, million)
    const parts: Array<string> = []
    for (let index = from; index < to; index++) {
      if (this.gone.has(index)) continue
      const etag = this.etags.get(index) ?? (index * 2654435761).toString(16).padStart(16, "0")
      parts.push(
        `<Contents><Key>${name(index)}</Key><LastModified>2026-11-21T08:00:00.000Z</LastModified><ETag>&quot;${etag}&quot;</ETag><Size>${index}</Size><StorageClass>STANDARD</StorageClass></Contents>`
      )
    }
    this.pages++
    const isLast = to === million
    if (isLast) this.walks++
    const next = isLast ? "" : `<NextContinuationToken>${to}</NextContinuationToken>`
    return `<?xml version="1.0" encoding="UTF-8"?><ListBucketResult><EncodingType>url</EncodingType><KeyCount>${parts.length}</KeyCount><IsTruncated>${!isLast}</IsTruncated>${next}${parts.join("")}</ListBucketResult>`
  }
}

const serve = (bucket: Bucket) =>
  Effect.acquireRelease(
    Effect.async<{ readonly url: string; readonly close: () => void }>((resume) => {
      const server = createServer((request, response) => {
        const body = bucket.page(new URL(request.url ?? "/", "http://127.0.0.1"))
        response
          .writeHead(200, { "content-type": "application/xml", "content-length": Buffer.byteLength(body) })
          .end(body)
      })
      server.listen(0, "127.0.0.1", () => {
        const address = server.address()
        const port = typeof address === "object" && address !== null ? address.port : 0
        resume(Effect.succeed({ url: `http://127.0.0.1:${port}`, close: () => server.closeAllConnections() }))
      })
    }),
    ({ close }) => Effect.sync(close)
  )

const environment = { AWS_ACCESS_KEY_ID: "key", AWS_SECRET_ACCESS_KEY: "secret", AWS_REGION: "us-east-1" }

const until = (what: () => boolean, context: () => string) =>
  Effect.sync(what).pipe(
    Effect.delay("50 millis"),
    Effect.repeat({ until: (done) => done }),
    Effect.timeoutOption("3 minutes"),
    Effect.map((done) => assert.isTrue(Option.isSome(done), `still not so: ${what} ${context()}`))
  )

/** The most memory that a process has held so far, in MiB. */
const peak = (pid: number): number =>
  Number(/VmHWM:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1] ?? Number.NaN) / 1024

describe("periscope over a bucket of a million keys", () => {
  it.scopedLive(
    "O3b O5 is killed, starts again, and reports only what changed",
    () =>
      Effect.gen(function* () {
        const bucket = new Bucket()
        const { url } = yield* serve(bucket)
        const state = yield* folder
        const watch = start(
          [
            "watch",
            "all=s3://bucket",
            "--endpoint",
            url,
            "--compact",
            "--state",
            state,
            "--interval",
            "500ms",
            "--initial",
            "suppress"
          ],
          environment
        )
        const first = yield* watch
        // the first complete listing is the baseline; it is saved before the next one begins
        yield* until(() => bucket.walks >= 1 && bucket.pages > million / pageSize, first.stderr)
        const firstPeak = peak(first.pid)
        first.kill("SIGKILL")
        yield* first.exited
        assert.deepEqual(first.lines(), [])

        for (const index of [5, 500_000, 999_999]) bucket.etags.set(index, `changed${index}`)
        for (const index of [0, 123_456]) bucket.gone.add(index)
        const walks = bucket.walks
        const second = yield* watch
        yield* until(() => second.lines().length >= 5 || bucket.walks > walks + 2, second.stderr)
        // one more walk, which has nothing to report
        const seen = bucket.walks
        yield* until(() => bucket.walks > seen + 1, second.stderr)
        const told = second.lines().map(({ key, type }) => `${type} ${key}`)
        assert.sameMembers(told, [
          `Modified ${name(5)}`,
          `Modified ${name(500_000)}`,
          `Modified ${name(999_999)}`,
          `Removed ${name(0)}`,
          `Removed ${name(123_456)}`
        ])
        assert.strictEqual(told.length, 5)
        const secondPeak = peak(second.pid)
        console.log(
          `a million keys: ${firstPeak.toFixed(0)} MiB at most before the kill, ${secondPeak.toFixed(0)} MiB after it`
        )
        assert.isBelow(Math.max(firstPeak, secondPeak), 400)
      }),
    { timeout: 600_000 }
  )
})
