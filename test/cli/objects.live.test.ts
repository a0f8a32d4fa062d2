/**
 * Goal: buckets and folders are watched by the compiled command line as its contract says: across `kill -9`, with removals
 * held back and let pass, and beside other sources. Folders are real, and so is the S3 server, Ceph RGW.
 */
import { afterAll, assert, beforeAll, describe, it } from "@effect/vitest"
import * as NodeClient from "effect-periscope/http/NodeClient"
import { S3 } from "effect-periscope/objects"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Scope from "effect/Scope"
import { mkdirSync, renameSync, rmSync, statSync, utimesSync, writeFileSync } from "node:fs"
import * as double from "../http/server.js"
import { apache, basicAuth, startWebDav } from "../objects/webDavServer.js"
import { isInstalled } from "../servers/installed.js"
import type { Rgw } from "../servers/rgw.js"
import { credentials, rgw, startRgw } from "../servers/rgw.js"
import type { Line } from "./periscope.js"
import * as periscope from "./periscope.js"

const brief = ({ key, type }: Line): string => `${type} ${key}`

/** Without what comes again because the kill came before its commit. */
const fresh = (lines: ReadonlyArray<Line>): ReadonlyArray<string> =>
  lines.filter(({ redelivered }) => redelivered !== true).map(brief)

const named = (folder: string, count: number): ReadonlyArray<string> =>
  Array.from({ length: count }, (_, n) => `${folder}/f${String(n).padStart(2, "0")}`)

/** A folder of files, 20 of which go at once when `gone` is renamed. */
const files = Effect.gen(function* () {
  const root = yield* periscope.folder
  const [watched, state, away] = [`${root}/watched`, `${root}/state`, `${root}/away`]
  for (const folder of ["stay", "gone"]) mkdirSync(`${watched}/${folder}`, { recursive: true })
  for (const name of [...named("stay", 30), ...named("gone", 20)]) writeFileSync(`${watched}/${name}`, name)
  const write = (name: string, text: string) => writeFileSync(`${watched}/${name}`, text)
  return { root, watched, state, write, vanish: () => renameSync(`${watched}/gone`, away) }
})

const tagged = (tag: string, names: ReadonlyArray<string>) => names.map((name) => `${tag} ${name}`)

/** Nobody's home: no profile, no metadata server. */
const noCredentials = (home: string) => ({ HOME: home, AWS_EC2_METADATA_DISABLED: "true", AWS_ACCESS_KEY_ID: "" })

const missing20 = (known: number, row: number): string =>
  `20 of ${known} objects are missing, such as "gone/f00", "gone/f01", "gone/f02" …; none is removed until 3 listings in a ` +
  `row miss them (${row} so far). To remove them now: `

describe("periscope watch ./dir", () => {
  it.scopedLive("prints each change of a file, and after kill -9 only what has changed since", () =>
    Effect.gen(function* () {
      const { state, watched, write } = yield* files
      const args = ["watch", `d=${watched}`, "--interval", "50ms", "--state", state]
      const first = yield* periscope.start(args)
      yield* first.until(() => first.lines().length === 50)
      write("stay/f00", "longer than before")
      yield* first.until(() => first.lines().length === 51)
      const { mtimeMs, size } = statSync(`${watched}/stay/f00`)
      const { previous, type, value } = first.lines()[50]!
      assert.deepStrictEqual(
        [type, Object.keys(value!), value!["key"], value!["size"], value!["lastModified"], previous!["size"]],
        [
          ...["Modified", ["key", "size", "lastModified", "version"], "stay/f00", size],
          ...[new Date(Math.floor(mtimeMs)).toISOString(), 8]
        ]
      )
      first.kill("SIGKILL")
      yield* first.exited
      write("stay/f01", "changed while nobody looked")
      write("stay/new", "new")
      rmSync(`${watched}/stay/f02`)
      const second = yield* periscope.start(args)
      yield* second.until(() => fresh(second.lines()).length >= 3)
      yield* Effect.sleep(300)
      second.kill("SIGTERM")
      const { code, stderr, stdout } = yield* second.ended
      assert.deepStrictEqual(fresh(periscope.parsed(stdout)), [
        "Modified stay/f01",
        "Added stay/new",
        "Removed stay/f02"
      ])
      assert.deepStrictEqual([code, stderr], [0, ""])
    })
  )

  it.scopedLive(
    "O3 holds back the removal of 40 % of the files, also across kill -9, until it is approved; new files are told",
    () =>
      Effect.gen(function* () {
        const { state, vanish, watched, write } = yield* files
        const args = ["watch", `d=${watched}`, "--interval", "1s", "--state", state]
        const first = yield* periscope.start(args)
        yield* first.until(() => first.lines().length === 50)
        vanish()
        write("stay/new", "new")
        yield* first.until(() => first.stderr().includes("missing") && first.lines().length === 51)
        first.kill("SIGKILL")
        yield* first.exited
        assert.strictEqual(
          first.stderr().slice("00:00:00 ".length),
          `warn d: ${missing20(50, 1)}kill -USR1 ${first.pid}, or start it with --approve d\n`
        )
        assert.deepStrictEqual(first.lines().slice(50).map(brief), ["Added stay/new"])

        // a run by cron in between is one more listing
        write("stay/new2", "new")
        const between = yield* periscope.run(["once", ...args.slice(1)])
        assert.deepStrictEqual(fresh(periscope.parsed(between.stdout)), ["Added stay/new2"])
        assert.strictEqual(
          between.stderr.slice("00:00:00 ".length),
          `warn d: ${missing20(51, 2)}run it with --approve d\n`
        )

        const second = yield* periscope.start([...args, "--approve", "d"])
        yield* second.until(() => second.lines().length === 20)
        second.kill("SIGTERM")
        const { code, stderr, stdout } = yield* second.ended
        assert.deepStrictEqual(periscope.parsed(stdout).map(brief), tagged("Removed", named("gone", 20)))
        assert.deepStrictEqual([code, stderr.slice("00:00:00 ".length)], [0, "info d: approved: 20 removals\n"])

        const third = yield* periscope.run(["once", ...args.slice(1), "--approve", "d"])
        assert.deepStrictEqual([third.code, third.stdout], [0, ""])
        assert.match(third.stderr, /info d: nothing is held back, so there is nothing to approve\n$/)
      }),
    20_000
  )

  it.scopedLive(
    "O3 lets removals pass at SIGUSR1, or when three listings in a row miss them",
    () =>
      Effect.gen(function* () {
        const { root, vanish, watched } = yield* files
        const slow = yield* periscope.start(["watch", `d=${watched}`, "--interval", "3s", "--format", "pretty"])
        const fast = yield* periscope.start(["watch", `d=${watched}`, "--interval", "100ms"])
        yield* fast.until(() => fast.lines().length === 50 && slow.stdout().split("\n").length === 51)
        slow.kill("SIGUSR1")
        yield* slow.until(() => slow.stderr().includes("nothing is held back"))
        vanish()
        yield* fast.until(() => fast.lines().length === 70)
        assert.deepStrictEqual(fast.lines().slice(50).map(brief), tagged("Removed", named("gone", 20)))
        const said = fast.stderr().replace(/^\S+ /gm, "").split("\n")
        assert.deepStrictEqual(said, [
          `warn d: ${missing20(50, 1)}kill -USR1 ${fast.pid}`,
          "warn d: 20 of 50 objects are missing still (2 of 3 listings in a row); none is removed yet",
          "info d: what was held back is removed",
          ""
        ])
        yield* slow.until(() => slow.stderr().includes("(1 so far)"))
        assert.notInclude(slow.stdout(), " - d")
        slow.kill("SIGUSR1")
        yield* slow.until(() => slow.stdout().match(/ - d {2}gone\/f\d\d +gone, was 8 B/g)?.length === 20)
        assert.include(slow.stderr(), "info d: approved: 20 removals")
        assert.notInclude(slow.stderr(), "(2 of 3")
        assert.isFalse(slow.hasEnded())
        // a folder that is not mounted is no folder without files
        renameSync(watched, `${root}/unmounted`)
        yield* fast.until(() => fast.stderr().includes("listPage found no folder there"))
        assert.lengthOf(fast.lines(), 70)
      }),
    20_000
  )

  it.scopedLive("waits for a folder that is not there yet, and for files to be old enough", () =>
    Effect.gen(function* () {
      const root = yield* periscope.folder
      const cli = yield* periscope.start([
        ...["watch", `d=file://${root}/later`, "--interval", "50ms", "--max-backoff", "100ms", "--min-age", "1h"]
      ])
      yield* cli.until(() => cli.stderr().includes("attempt 2"))
      assert.match(cli.stderr(), /warn d: poll failed \(attempt 1, next in 100ms\): .*found no folder there; make it/)
      mkdirSync(`${root}/later`)
      writeFileSync(`${root}/later/young`, "")
      writeFileSync(`${root}/later/old`, "")
      utimesSync(`${root}/later/old`, 1e9, 1e9)
      yield* cli.until(() => cli.lines().length > 0)
      cli.kill("SIGTERM")
      const { code, stdout } = yield* cli.ended
      assert.deepStrictEqual([code, ...periscope.parsed(stdout).map(brief)], [0, "Added old"])
    })
  )

  it.scopedLive("remembers less with --compact, and removes at once with --no-removal-guard", () =>
    Effect.gen(function* () {
      const { state, vanish, watched, write } = yield* files
      const once = periscope.run(["once", `d=${watched}`, "--state", state, "--compact", "--no-removal-guard"])
      assert.lengthOf(periscope.parsed((yield* once).stdout), 50)
      vanish()
      write("stay/f00", "longer than before")
      const { code, stderr, stdout } = yield* once
      assert.deepStrictEqual([code, stderr], [0, ""])
      const lines = periscope.parsed(stdout)
      assert.deepStrictEqual(lines.map(brief), ["Modified stay/f00", ...tagged("Removed", named("gone", 20))])
      assert.isTrue(lines.every(({ previous }) => previous === undefined))
    })
  )
})

describe("periscope watch of several stores", () => {
  it.scopedLive("goes on with the others where one has no credentials, and says what is missing once, with 1", () =>
    Effect.gen(function* () {
      const { root, watched, write } = yield* files
      const server = yield* double.startServer
      server.answer(double.content("1"))
      const cli = yield* periscope.start(
        [
          ...["watch", `d=${watched}`, "s3://bucket/x", "gs://bucket", "az://container", `h=${server.url()}`],
          ...["--interval", "50ms"]
        ],
        {
          ...noCredentials(root),
          GOOGLE_APPLICATION_CREDENTIALS: `${root}/no.json`,
          AZURE_STORAGE_CONNECTION_STRING: "AccountName=account;AccountKey=sec-ret"
        }
      )
      yield* cli.until(() => cli.lines().length === 51 && /s3:[^]*gs:|gs:[^]*s3:/.test(cli.stderr()))
      write("stay/new", "new")
      server.answer(double.content("2"))
      yield* cli.until(() => cli.lines().length === 53)
      cli.kill("SIGTERM")
      const { code, stderr } = yield* cli.ended
      assert.strictEqual(code, 1)
      const said = stderr.split("\n").filter((line) => /s3:|gs:|az:/.test(line))
      assert.deepStrictEqual(said.sort(), [
        "periscope: az://container: Azure: the account key is no base64 text; copy it whole, with the = at its end.",
        "periscope: gs://bucket cannot be opened: Google Cloud has no credentials here: a file that they are read from cannot be " +
          "opened (ENOENT) (to give it keys: set GOOGLE_APPLICATION_CREDENTIALS to a key file, or STORAGE_EMULATOR_HOST to an emulator).",
        "periscope: s3://bucket/x: s3://bucket cannot be opened: Amazon's chain has none: not in the environment, in a profile, " +
          "from a container or an instance role (to give it keys: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY)."
      ])
      assert.notInclude(stderr, "sec-ret")
    })
  )

  it.scopedLive("asks two clouds at once with what the environment has, and shows none of it", () =>
    Effect.gen(function* () {
      const server = yield* double.startServer
      const updated = "2026-01-31T12:00:00.000Z"
      const item = { name: "docs/a", size: "3", etag: "CAE=", generation: "9", updated }
      server.route("/storage/v1/b/bucket/o", double.content(JSON.stringify({ kind: "storage#objects", items: [item] })))
      const properties = `<Last-Modified>Sat, 31 Jan 2026 12:00:00 GMT</Last-Modified><Etag>0x8D</Etag><Content-Length>5</Content-Length>`
      const blob = `<Blob><Name>docs/b</Name><Properties>${properties}</Properties></Blob>`
      const account = server.url("/account")
      server.route(
        "/account/container",
        double.content(
          `<?xml version="1.0" encoding="utf-8"?><EnumerationResults ServiceEndpoint="${account}" ContainerName="container">` +
            `<Blobs>${blob}</Blobs><NextMarker /></EnumerationResults>`
        )
      )
      const sources = ["gs=gs://bucket/docs", "az=az://container/docs"]
      const environment = {
        STORAGE_EMULATOR_HOST: server.origin,
        AZURE_STORAGE_CONNECTION_STRING: `BlobEndpoint=${account};AccountName=account;AccountKey=c2VjLXJldA==`
      }
      const whole = yield* periscope.run(["once", ...sources, "--log-level", "debug"], environment)
      assert.deepStrictEqual([whole.code, whole.stderr], [0, ""])
      const [az, gs] = [...periscope.parsed(whole.stdout)].sort((a, b) => a.source.localeCompare(b.source))
      assert.deepStrictEqual(
        [az!.value, gs!.value],
        [
          { key: "docs/b", size: 5, etag: '"0x8D"', lastModified: updated },
          { key: "docs/a", size: 3, etag: "CAE=", lastModified: updated, version: "9" }
        ]
      )
      assert.deepStrictEqual(
        server.requests.map(({ url }) => new URL(url, server.origin).searchParams.get("prefix")),
        ["docs/", "docs/"]
      )
      // an answer that is no listing is never an empty store
      for (const path of ["/storage/v1/b/bucket/o", "/account/container"]) {
        server.route(path, double.content("<html>sign in</html>"))
      }
      const none = yield* periscope.run(["once", ...sources, "--log-level", "debug"], environment)
      assert.deepStrictEqual([none.code, none.stdout], [1, ""])
      assert.match(none.stderr, /^periscope: gs: .*: listPage got no JSON; is the endpoint that of Cloud Storage\?$/m)
      assert.match(none.stderr, /^periscope: az: .*: listPage /m)
      assert.notMatch(whole.stdout + none.stderr, /c2VjLXJldA|sec-ret/)
    })
  )

  it.scopedLive("says of an address that is none what to write instead, with 2", () =>
    Effect.gen(function* () {
      const { code, stderr } = yield* periscope.run(["once", "s3://sec-key:sec-ret@bucket"])
      assert.deepStrictEqual(
        [code, stderr],
        [
          2,
          "periscope: an s3:// address holds no user or key; write s3://bucket/prefix, and put the key into " +
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.\n"
        ]
      )
    })
  )
})

describe.skipIf(!isInstalled(apache))("periscope watch dav:// on Apache", () => {
  it.scopedLive("follows a folder on a server with the user of the address, who is shown nowhere", () =>
    Effect.gen(function* () {
      const server = yield* startWebDav
      const { path, url } = yield* server.folder
      mkdirSync(`${path}/sub`)
      writeFileSync(`${path}/sub/a b`, "1")
      const { username, password } = basicAuth
      const user = `${username}:${encodeURIComponent(Redacted.value(password))}@`
      const address = url.replace("http://", "dav://")
      const state = yield* periscope.folder
      const args = ["--interval", "50ms", "--state", state, "--log-level", "debug"]
      const cli = yield* periscope.start(["watch", address.replace("://", `://${user}`), ...args])
      yield* cli.until(() => cli.lines().length === 1)
      writeFileSync(`${path}/sub/a b`, "longer")
      yield* cli.until(() => cli.lines().length === 2)
      rmSync(`${path}/sub/a b`)
      writeFileSync(`${path}/new`, "")
      yield* cli.until(() => cli.lines().length >= 4)
      cli.kill("SIGTERM")
      const { code, stderr, stdout } = yield* cli.ended
      assert.strictEqual(code, 0)
      const lines = periscope.parsed(stdout)
      assert.deepStrictEqual([...new Set(lines.map(({ source }) => source))], [address])
      // all that was known was gone for three listings
      assert.deepStrictEqual(lines.map(brief), [
        ...["Added sub/a b", "Modified sub/a b", "Added new", "Removed sub/a b"]
      ])
      assert.deepStrictEqual([lines[1]!.previous!["size"], lines[1]!.value!["size"]], [1, 6])
      const wrong = yield* periscope.run(["once", address.replace("://", "://tester:sec-ret@")])
      assert.strictEqual(wrong.code, 1)
      assert.match(wrong.stderr, /^periscope: dav:\S+: http:\S+: listPage was answered with 401[^\n]*\n$/)
      assert.notMatch(stdout + stderr + wrong.stderr, /geheim|sec-ret|tester/)
    })
  )
})

describe.skipIf(!isInstalled(rgw))("periscope watch s3:// on Ceph RGW", () => {
  let server: Rgw
  const scope = Effect.runSync(Scope.make())
  const keys = Array.from({ length: 20_000 }, (_, n) => `docs/${n % 7}/é ${String(n).padStart(5, "0")}`).sort()
  beforeAll(async () => {
    server = await Effect.runPromise(Scope.extend(startRgw, scope))
    await Effect.runPromise(Effect.scoped(fill))
  }, 240_000)
  afterAll(() => Effect.runPromise(Scope.close(scope, Exit.void)), 30_000)

  const keysOf = {
    AWS_ACCESS_KEY_ID: credentials.accessKeyId,
    AWS_SECRET_ACCESS_KEY: Redacted.value(credentials.secretAccessKey)
  }

  const open = (bucket: string) =>
    Effect.flatMap(Layer.build(NodeClient.layer()), (client) =>
      Effect.provide(S3.make({ bucket, endpoint: server.endpoint, region: "us-east-1", credentials }), client)
    )

  const fill = Effect.gen(function* () {
    yield* server.createBucket("many-keys")
    const store = yield* open("many-keys")
    yield* Effect.forEach([...keys, "docs2/x"], (key) => store.put(key, ""), { concurrency: 24, discard: true })
  })

  const lineCount = (text: string): number => {
    let count = 0
    for (let at = text.indexOf("\n"); at >= 0; at = text.indexOf("\n", at + 1)) count++
    return count
  }

  it.scopedLive(
    "a bucket of 20,000 keys is watched, killed in its first listing and later, and only what changed is told",
    () =>
      Effect.gen(function* () {
        const store = yield* open("many-keys")
        const state = yield* periscope.folder
        const args = [
          ...["watch", "b=s3://many-keys/docs", "--endpoint", server.endpoint, "--state", state, "--interval", "300ms"]
        ]

        const first = yield* periscope.start(args, keysOf)
        yield* first.until(() => lineCount(first.stdout()) >= 3000)
        first.kill("SIGKILL")
        yield* first.exited
        const seen = new Set(first.lines().map(({ key }) => key))
        assert.isBelow(seen.size, 20_000)

        const second = yield* periscope.start(args, keysOf)
        const hasAll = () => {
          const told = lineCount(second.stdout())
          return (
            told + seen.size >= 20_000 && new Set([...seen, ...second.lines().map(({ key }) => key)]).size === 20_000
          )
        }
        yield* second.until(hasAll)
        second.kill("SIGKILL")
        yield* second.exited
        for (const line of second.lines()) {
          assert.isTrue(line.type === "Added" && (!seen.has(line.key) || line.redelivered === true), line.key)
        }
        assert.deepStrictEqual([...new Set([...seen, ...second.lines().map(({ key }) => key)])].sort(), keys)

        yield* store.put(keys[7]!, "changed")
        yield* store.put("docs/9/new", "new")
        yield* store.remove(keys[19_000]!)
        const third = yield* periscope.start(args, keysOf)
        yield* third.until(() => third.stdout().includes('"Removed"'))
        third.kill("SIGTERM")
        const { code, stderr } = yield* third.ended
        assert.deepStrictEqual(fresh(third.lines()), [
          `Modified ${keys[7]}`,
          "Added docs/9/new",
          `Removed ${keys[19_000]}`
        ])
        const { value } = third.lines().find(({ type }) => type === "Added")!
        assert.deepStrictEqual(Object.keys(value!), ["key", "size", "etag", "lastModified"])
        assert.deepStrictEqual([code, stderr], [0, ""])
      }),
    60_000
  )

  it.scopedLive("O2 wrong credentials and a missing bucket are told in a sentence, with 1, and never as empty", () =>
    Effect.gen(function* () {
      yield* server.createBucket("some-bucket")
      const once = (bucket: string, secret: string) =>
        Effect.map(
          periscope.run(["once", `b=s3://${bucket}`, "--endpoint", server.endpoint], {
            AWS_ACCESS_KEY_ID: keysOf.AWS_ACCESS_KEY_ID,
            AWS_SECRET_ACCESS_KEY: secret
          }),
          ({ code, stderr, stdout }) => [code, stdout, stderr]
        )
      const where = (bucket: string) => `periscope: b: ${server.endpoint}/${bucket}: listPage was answered with`
      const wrong = yield* once("some-bucket", "sec-ret")
      assert.deepStrictEqual(wrong.slice(0, 2), [1, ""])
      assert.match(
        String(wrong[2]),
        /^periscope: b: \S+: listPage was answered with 403 SignatureDoesNotMatch[^\n]*\n$/
      )
      assert.notInclude(String(wrong[2]), "sec-ret")
      const none = yield* once("no-such-bucket", keysOf.AWS_SECRET_ACCESS_KEY)
      assert.deepStrictEqual(none.slice(0, 2), [1, ""])
      assert.isTrue(String(none[2]).startsWith(`${where("no-such-bucket")} 404`), String(none[2]))
      assert.deepStrictEqual(yield* once("some-bucket", keysOf.AWS_SECRET_ACCESS_KEY), [0, "", ""])
    })
  )
})
