/**
 * Goal: what can be wrong with the arguments for Tap servers is said before anything is asked, without a secret (E3).
 */
import { assert, describe, it } from "@effect/vitest"
import * as Either from "effect/Either"
import * as Redacted from "effect/Redacted"
import * as options from "../../src/cli/options.js"
import * as plan from "../../src/cli/plan.js"
import * as sourceUri from "../../src/cli/sourceUri.js"
import * as tapCommand from "../../src/cli/tapCommand.js"
import * as tapPlan from "../../src/cli/tapPlan.js"

const planned = (args: string, environment: Record<string, string> = {}): Either.Either<plan.Plan, string> =>
  Either.flatMap(options.parse(args.split(" ")), (given) => plan.make(given, environment))

const asked = (args: string, environment: Record<string, string> = {}, hasInput = false) =>
  Either.flatMap(options.parse(args.split(" ")), (given) => tapPlan.make(given, environment, hasInput))

const saying = <A>(result: Either.Either<A, string>): string =>
  Either.match(result, { onLeft: (problem) => problem, onRight: () => "accepted" })

describe("tap:// addresses", () => {
  it("are named without their password and their channel", () => {
    const parts = (text: string) => {
      const target = Either.getOrThrow(sourceUri.parse(text))
      return target.kind === "tap"
        ? [target.name, target.publicUrl, target.address.hasPassword, Redacted.value(target.address.url)]
        : assert.fail(target.kind)
    }
    assert.deepStrictEqual(parts("tap://localhost:2480"), [
      ...["tap://localhost:2480", "tap://localhost:2480", false, "tap://localhost:2480"]
    ])
    assert.deepStrictEqual(parts("t=TAPS://admin:sec%20ret@T.example/base/channel"), [
      ...["t", "taps://t.example/base", true, "TAPS://admin:sec%20ret@T.example/base/channel"]
    ])
  })

  const wrong: ReadonlyArray<readonly [string, RegExp]> = [
    ["tap://", /^a tap:\/\/ address needs a host; write it as tap:\/\/localhost:2480$/],
    ["tap:localhost", /needs a host/],
    ["taps://x:y:z", /^a taps:\/\/ address needs a host/],
    ["tap://h?token=sec-ret", /has no query and no fragment/],
    ["tap://root:sec-ret@h", /has no user but admin/],
    ["tap://admin@h", /needs a password, as in admin:PASSWORD@/]
  ]
  for (const [address, says] of wrong) {
    it(`${address} is refused`, () => {
      assert.match(saying(sourceUri.parse(address)), says)
      assert.notMatch(saying(sourceUri.parse(address)), /sec-ret/)
    })
  }
})

describe("watch tap://", () => {
  it("takes its options and the password of the environment", () => {
    const { sources } = Either.getOrThrow(
      planned("watch tap://h --acks none --collections app.bsky.feed.post,app.bsky.graph.* --live-only", {
        TAP_ADMIN_PASSWORD: "sec-ret"
      })
    )
    const [source] = sources
    if (source === undefined || !plan.isTap(source)) return assert.fail("no Tap server")
    const { password, ...others } = source.options
    assert.deepStrictEqual(others, {
      acks: false,
      collections: ["app.bsky.feed.post", "app.bsky.graph.*"],
      liveOnly: true
    })
    assert.strictEqual(Redacted.value(password!), "sec-ret")
  })

  const wrong: ReadonlyArray<readonly [string, RegExp]> = [
    [
      "once tap://h",
      /^once ends when a source was observed, and "tap:\/\/h" has no end; write periscope watch <source>$/
    ],
    ["watch http://h --live-only", /^--live-only is for Tap servers, and none is given; leave it out$/],
    ["watch http://h --acks none", /^--acks is for Tap servers/],
    ["watch tap://h --acks some", /^--acks "some" is unknown; write none$/],
    ["watch tap://h --collections app.*.x", /^--collections "app\.\*\.x" is no list of collections/],
    ["watch tap://h --collections ,", /is no list of collections/],
    ["watch tap://h --bearer-token-env HOME", /which is not set|over HTTP, WebDAV and WebSocket/],
    ["watch tap://h --key id", /--key/],
    ["watch tap://h tap://h", /^two sources are called "tap:\/\/h"/]
  ]
  for (const [args, says] of wrong) {
    it(`${args} is refused`, () => {
      assert.match(saying(planned(args)), says)
    })
  }

  it("S9 does not follow one server twice, however it is written", () => {
    for (const second of ["b=tap://h:80/channel", "b=TAP://H/", "b=tap://admin:sec-ret@h"]) {
      assert.strictEqual(
        saying(planned(`watch a=tap://h ${second}`)),
        '"a" and "b" are one Tap server, which would split its events between the two; leave one of them out'
      )
    }
    for (const second of ["b=tap://h:2480", "b=taps://h", "b=tap://h/base", "b=http://h"]) {
      assert.strictEqual(saying(planned(`watch a=tap://h ${second}`)), "accepted")
    }
  })

  it("does not give one password to several servers", () => {
    const environment = { TAP_ADMIN_PASSWORD: "sec-ret" }
    assert.match(
      saying(planned("watch tap://a tap://b", environment)),
      /^TAP_ADMIN_PASSWORD would go to 2 servers; write/
    )
    assert.strictEqual(saying(planned("watch tap://a tap://admin:x@b", environment)), "accepted")
  })
})

describe("tap repos", () => {
  it("takes a server and DIDs, or those on stdin", () => {
    const { action, dids, target, timeoutMillis } = Either.getOrThrow(
      asked("tap repos add t=tap://h did:plc:a did:plc:b --timeout 5s")
    )
    assert.deepStrictEqual([action, dids, target.name, timeoutMillis], ["add", ["did:plc:a", "did:plc:b"], "t", 5000])
    assert.strictEqual(Either.getOrThrow(asked("tap repos info tap://h", {}, true)).dids, "stdin")
    assert.deepStrictEqual(Either.getOrThrow(asked("tap repos stats tap://h", {}, true)).dids, [])
  })

  it("has a password from one place", () => {
    const environment = { TAP_ADMIN_PASSWORD: "sec-ret" }
    assert.isUndefined(Either.getOrThrow(asked("tap repos stats tap://admin:x@h", environment)).password)
    assert.isDefined(Either.getOrThrow(asked("tap repos stats tap://h", environment)).password)
  })

  it("S10 E3 takes nothing but DIDs, and shows no password that is written in the place of one", () => {
    const problemOf = (args: string) => tapCommand.problemOf(Either.getOrThrow(asked(args, {}, true)))
    for (const action of ["add", "remove", "info", "resolve"]) {
      assert.strictEqual(
        problemOf(`tap repos ${action} tap://h did:plc:a alice`),
        `periscope tap repos ${action} takes DIDs, such as did:plc:ewvi7nxzyoun6zhxrhs64oiz, and "alice" is none`
      )
      assert.isUndefined(problemOf(`tap repos ${action} tap://h did:plc:a did:web:localhost%3A8080`))
      assert.isUndefined(problemOf(`tap repos ${action} tap://h`))
    }
    assert.isUndefined(problemOf("tap repos stats tap://h"))
    assert.notMatch(problemOf("tap repos add tap://h tap://admin:sec-ret@i") ?? "", /sec-ret/)
  })

  const wrong: ReadonlyArray<readonly [string, RegExp]> = [
    ["tap", /^periscope tap takes repos add, remove, info, resolve or stats; write/],
    ["tap repos list tap://h", /^periscope tap takes repos add/],
    ["tap repos add", /^periscope tap repos add takes a Tap server, such as tap:\/\/localhost:2480$/],
    ["tap repos add http://h did:plc:a", /is for Tap servers, and "http:\/\/h\/" is none; write one such as tap:/],
    [
      "tap repos add tap://h",
      /^periscope tap repos add lacks DIDs; write them behind the server, or one a line on stdin$/
    ],
    ["tap repos stats tap://h did:plc:a", /takes nothing but the server/],
    [
      "tap repos add tap://h did:plc:a --interval 5s",
      /^--interval is for periscope watch and periscope once; leave it out$/
    ],
    ["tap repos add tap://h did:plc:a --live-only", /^--live-only is for periscope watch; leave it out$/]
  ]
  for (const [args, says] of wrong) {
    it(`${args} is refused`, () => assert.match(saying(asked(args)), says))
  }
})
