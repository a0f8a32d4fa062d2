import { assert, describe, it } from "@effect/vitest"
import * as Either from "effect/Either"
import * as Redacted from "effect/Redacted"
import * as jsonPath from "../../src/cli/jsonPath.js"
import * as options from "../../src/cli/options.js"
import * as plan from "../../src/cli/plan.js"
import * as sourceUri from "../../src/cli/sourceUri.js"
import * as units from "../../src/cli/units.js"
import * as path from "node:path"

const read = (args: string, environment: Readonly<Record<string, string>> = {}) =>
  Either.flatMap(options.parse(split(args)), (given) => plan.make(given, environment))

/** Words, with `'…'` around those that have blanks. */
const split = (args: string): ReadonlyArray<string> =>
  [...args.matchAll(/'([^']*)'|(\S+)/g)].map(([, quoted, word]) => quoted ?? word!)

const ok = (args: string, environment?: Readonly<Record<string, string>>) =>
  Either.getOrThrowWith(read(args, environment), (problem) => new Error(problem))

const refused = (args: string, environment?: Readonly<Record<string, string>>): string =>
  Either.match(read(args, environment), { onLeft: (problem) => problem, onRight: () => "accepted" })

describe("units", () => {
  it("read durations and sizes", () => {
    const durations = ["500ms", "30s", "1.5s", "5m", "1h", "2d"].map((text) => Either.getOrNull(units.duration(text)))
    assert.deepStrictEqual(durations, [500, 30_000, 1500, 300_000, 3_600_000, 172_800_000])
    for (const text of ["", "5", "-5s", "0s", "1e3s", "5 s", "5S", "NaNs", "Infinitys", "25d", "0.1ms", "1h30m"]) {
      assert.isTrue(Either.isLeft(units.duration(text)), text)
    }
    const sizes = ["1", "1B", "1kB", "1KiB", "16MiB", "0.5MB", "2GiB"].map((text) => Either.getOrNull(units.size(text)))
    assert.deepStrictEqual(sizes, [1, 1, 1000, 1024, 16 * 1024 * 1024, 500_000, 2 ** 31])
    for (const text of ["", "0", "-1", "1TB", "1 kB", "MiB", "0.1", "3GiB", "constructor"]) {
      assert.isTrue(Either.isLeft(units.size(text)), text)
    }
  })

  it("are shown for people", () => {
    assert.deepStrictEqual([0, 999, 12_000, 1_234_567].map(units.showCount), ["0", "999", "12,000", "1,234,567"])
    assert.deepStrictEqual([350, 1000, 1500, 12_000, 119_000, 180_000, 7_500_000].map(units.showMillis), [
      "350 ms",
      "1 s",
      "1.5 s",
      "12 s",
      "119 s",
      "3 min",
      "2 h 5 min"
    ])
    assert.deepStrictEqual([34, 1200, 99_999, 2_500_000].map(units.showBytes), ["34 B", "1.2 kB", "100 kB", "2.5 MB"])
  })
})

describe("sourceUri", () => {
  it("reads addresses with and without a name", () => {
    const parts = (text: string) =>
      Either.match(sourceUri.parse(text), {
        onLeft: (problem) => [problem],
        onRight: (target) => [
          ...[target.name, target.isNamed, target.publicUrl],
          target.kind === "http" ? target.url.href : target.kind === "objects" ? { ...target.place } : target.kind
        ]
      })
    assert.deepStrictEqual(parts("https://u:p@h.example/a?b=c#d"), [
      ...["https://h.example/a", false, "https://h.example/a", "https://u:p@h.example/a?b=c"]
    ])
    assert.deepStrictEqual(parts("conf.v-1_ä=http://h:8/?x=y=z"), [
      ...["conf.v-1_ä", true, "http://h:8/", "http://h:8/?x=y=z"]
    ])
  })

  it("reads where objects are: keys are plain text, a folder is absolute, a WebDAV server is asked over HTTP", () => {
    const place = (text: string): unknown =>
      Either.match(sourceUri.parse(text), {
        onLeft: (problem) => problem,
        onRight: (target) => {
          if (target.kind !== "objects") return target.kind
          const { place } = target
          return [target.name, place.store === "dav" ? { ...place, url: place.url.href } : place]
        }
      })
    const bucket = (store: string, container: string, prefix: string) => ({ store, container, prefix })
    assert.deepStrictEqual(place("s3://b.c"), ["s3://b.c", bucket("s3", "b.c", "")])
    assert.deepStrictEqual(place("S3://bucket/"), ["s3://bucket/", bucket("s3", "bucket", "")])
    assert.deepStrictEqual(place("x=s3://bucket/a%20b/c d"), ["x", bucket("s3", "bucket", "a%20b/c d")])
    assert.deepStrictEqual(place("gs://bucket/a@b"), ["gs://bucket/a@b", bucket("gs", "bucket", "a@b")])
    assert.deepStrictEqual(place("s3://bucket/1:2@b"), ["s3://bucket/1:2@b", bucket("s3", "bucket", "1:2@b")])
    assert.deepStrictEqual(place("az://$web/a/"), ["az://$web/a/", bucket("az", "$web", "a/")])
    assert.deepStrictEqual(place("dav://u:p@h:8/a%20b#x"), [
      ...["dav://h:8/a%20b", { store: "dav", url: "http://u:p@h:8/a%20b" }]
    ])
    assert.deepStrictEqual(place("n=davs://h"), ["n", { store: "dav", url: "https://h/" }])
    assert.deepStrictEqual(place("file:///a/b%20c"), ["file:///a/b%20c", { store: "folder", path: "/a/b c" }])
    assert.deepStrictEqual(place("file:///a%3Fb"), ["file:///a%3Fb", { store: "folder", path: "/a?b" }])
    assert.deepStrictEqual(place("file://localhost/a"), ["file:///a", { store: "folder", path: "/a" }])
    for (const local of [".", "..", "./a=b", "../a", "/a#c", "./a:b/"]) {
      assert.deepStrictEqual(place(local), [local, { store: "folder", path: path.resolve(local) }])
    }
  })

  it("says what is wrong with the place of objects, and shows no secret", () => {
    const problem = (text: string): string => Either.getOrElse(Either.flip(sourceUri.parse(text)), () => "accepted")
    const wrong: ReadonlyArray<readonly [source: string, says: RegExp]> = [
      ["s3://", /^an s3:\/\/ address needs a bucket; write it as s3:\/\/bucket\/prefix$/],
      ["s3:///x", /needs a bucket/],
      ["az://", /needs a container/],
      ["s3:bucket", /not a valid address; write it whole, such as s3:/],
      ["s3://bucket/x?sec-query", /has no query and no fragment/],
      ["s3://bucket?sec-query", /has no query and no fragment/],
      ["gs://bucket/x#y", /has no query and no fragment/],
      ["s3://bucket:9000/x", /has no port; write it as .* and the server as --endpoint/],
      ["s3://sec-key:sec-secret@bucket/x", /holds no user or key.*AWS_SECRET_ACCESS_KEY$/],
      ["s3://sec-key:sec/secret@bucket/x", /holds no user or key/],
      ["az://sec-key@container", /holds no user or key.*AZURE_STORAGE_CONNECTION_STRING$/],
      ["s3://_b", /^"_b" cannot be the name of a bucket/],
      ["gs://b-/x", /^"b-" cannot be the name of a bucket/],
      ["az://Upper", /^"Upper" cannot be the name of a container/],
      ["dav:x", /not a valid address; write it whole, such as dav:/],
      ["dav://", /not a valid address/],
      ["n=davs:///x", /^the source "n" is not a valid address; .* davs:/],
      ["dav://sec-u:sec-p@h/x?sec-q", /^a dav:\/\/ address has no query/],
      ["file:x", /not a valid address; write it whole, such as file:\/\/\/dir/],
      ["file://host/dir", /has no host, but three slashes/],
      ["file:///dir?x", /has no query and no fragment/],
      ["file:///a%2Fb", /not a valid address/],
      ["./a?sec-query", /^a folder has no query \("\?"\); .* write it as file:\/\/\/dir with %3F/],
      ["./a\0b", /not a valid address/]
    ]
    for (const [source, says] of wrong) {
      assert.match(problem(source), says, source)
      assert.notMatch(problem(source), /sec-|accepted/, source)
    }
  })

  it("says what works, and shows no secret", () => {
    const problem = (text: string): string => Either.getOrElse(Either.flip(sourceUri.parse(text)), () => "accepted")
    for (const wrong of [
      "foo://me:sec-pass@x/?sec-query",
      "me:sec-pass@x?sec-query",
      "sec-pass@x",
      "http://",
      "http:x"
    ]) {
      assert.notMatch(problem(wrong), /sec-|accepted/, wrong)
    }
    assert.strictEqual(
      problem("foo://x"),
      `the scheme "foo:" is unknown; http(s)://, s3://, gs://, az://, dav(s)://, sqlite:, postgres://, tap(s)://, ws(s)://, file:/// and paths such as ./dir work`
    )
    assert.match(
      problem("example.com/x?sec-query"),
      /^"example\.com\/x" is no source; write an address with its scheme/
    )
    assert.match(problem("=http://x"), /cannot name a source/)
    assert.match(problem("a b=http://x"), /cannot name a source/)
  })
})

describe("arguments", () => {
  it("have defaults, and stand in any order", () => {
    const {
      logLevel: _,
      sources,
      ...rest
    } = ok("--interval 2s watch --jitter=.5 http://a/ --format ndjson b=http://a/")
    assert.deepStrictEqual(
      sources.map(({ target }) => target.name),
      ["http://a/", "b"]
    )
    assert.deepStrictEqual(rest, {
      command: "watch",
      intervalMillis: 2000,
      maxBackoffMillis: 64_000,
      giveUpAfterMillis: undefined,
      jitter: 0.5,
      initial: "emit",
      state: undefined,
      reset: [],
      approve: [],
      format: "ndjson",
      timeoutMillis: undefined,
      maxBodyBytes: undefined,
      exec: undefined
    })
    assert.strictEqual(ok("once http://a").intervalMillis, 30_000)
    // no timer of Node waits longer than that
    assert.strictEqual(ok("watch http://a --interval 1d").maxBackoffMillis, units.maxMillis)
    assert.deepStrictEqual(ok("watch http://a --exec 'cat -' --exec-timeout 5m").exec, {
      command: "cat -",
      timeoutMillis: 300_000
    })
    assert.strictEqual(ok("watch --log-level warn -- http://a").logLevel, "warning")
    assert.deepStrictEqual(ok("watch --state d --reset a --reset b").reset, ["a", "b"])
  })

  const wrong: ReadonlyArray<readonly [args: string, says: RegExp]> = [
    ["watch", /^watch needs a source/],
    ["once", /^once needs a source/],
    ["--interval 1s", /^there is no command/],
    ["http://a", /^a source needs a command in front of it/],
    ["wach http://a", /^the command "wach" is unknown/],
    ["watch http://a --entity e", /^--entity is for periscope log append; leave it out/],
    ["once http://a --keep 3", /^--keep is for periscope log prune; leave it out/],
    ["watch sqlite:a.db sqlite:a.db?table=b", /^two sources are called "sqlite:a\.db"; give one a name/],
    ["watch sqlite:a.db --min-age 5s", /^--min-age is for object stores/],
    [
      "watch sqlite:a.db --header 'K: v'",
      /^--header is for sources over HTTP, WebDAV and WebSocket, and none is given/
    ],
    [
      "watch sqlite:a.db --max-body 1MiB",
      /^--max-body bounds the answers of HTTP sources and the frames of WebSockets, and none is given/
    ],
    ["watch sqlite:a.db --key id", /^--key is for lists over HTTP, and "sqlite:a\.db" is none/],
    ["watch --bogus http://a", /^the option --bogus is unknown; periscope --help/],
    ["watch http://a --intervall 5s", /did you mean --interval\?$/],
    ["watch http://a --head 'a: b'", /did you mean --header\?$/],
    ["watch http://a -x", /^the option -x is unknown/],
    ["watch http://a --acks none", /^--acks is for Tap servers, and none is given; leave it out$/],
    ["watch http://a --interval", /^--interval needs a value, such as --interval 30s/],
    ["watch http://a --state --reset a", /^--state needs a value/],
    ["watch http://a --interval 5", /^--interval "5" is not a duration; write one such as/],
    ["watch http://a --interval -5s", /^--interval "-5s" is not a duration/],
    ["watch http://a --interval 1s --interval 2s", /^--interval is given twice/],
    ["watch http://a --help=no", /^--help takes no value/],
    ["watch http://a --max-backoff 29s", /^--max-backoff 29s is below the interval \(30 s\)/],
    ["watch http://a --give-up-after x", /^--give-up-after "x" is not a duration/],
    ["watch http://a --jitter 1.5", /^--jitter "1.5" is not a fraction/],
    ["watch http://a --jitter -0.1", /^--jitter "-0.1" is not a fraction/],
    ["watch http://a --initial no", /^--initial "no" is unknown; write emit or suppress/],
    ["watch http://a --format json", /^--format "json" is unknown; write ndjson or pretty/],
    ["watch http://a --log-level loud", /^--log-level "loud" is unknown; write none or error or/],
    ["watch http://a --max-body 0", /^--max-body "0" is not a size that can be used/],
    ["watch http://a --max-body big", /^--max-body "big" is not a size; write one such as 16MiB/],
    ["watch http://a --timeout 0s", /^--timeout "0s" is too short/],
    ["watch http://a --exec-timeout 5m", /^--exec-timeout bounds the command of --exec, which is missing/],
    ["watch http://a --exec ' '", /^--exec is empty/],
    ["watch http://a --reset a", /^--reset forgets a checkpoint in --state DIR, which is missing/],
    ["watch http://a http://a", /^two sources are called "http:\/\/a\/"; give one a name/],
    ["watch http://a?1 http://a?2", /^two sources are called/],
    ["watch x=http://a x=http://b", /^two sources are called "x"/],
    ["watch foo://x", /^the scheme "foo:" is unknown/],
    [
      "watch http://a --endpoint http://b",
      /^--endpoint is for s3:\/\/, gs:\/\/ and az:\/\/ sources, and none is given/
    ],
    ["watch ./a --endpoint http://b", /^--endpoint is for .* and none is given/],
    ["watch s3://bb x=dav://h --endpoint x=http://b", /^--endpoint is for .*, and "x" is none/],
    ["watch s3://bb --endpoint no=http://b", /^--endpoint is for the source "no", which is not given/],
    ["watch s3://bb gs://cc --endpoint http://b", /^--endpoint would go to stores of more than one kind; .* NAME=…$/],
    ["watch s3://bb --endpoint http://b --endpoint http://c", /^--endpoint is given twice for one source/],
    ["watch s3://bb --endpoint b:9000", /^an --endpoint is not a valid http:\/\/ or https:\/\/ address/],
    ["watch s3://bb --endpoint http://sec-u@b", /^an --endpoint has no user info, query or fragment/],
    ["watch s3://bb --endpoint http://b?sec-q", /^an --endpoint has no user info, query or fragment/],
    ["watch gs://bb --region eu-west-1", /^--region is for s3:\/\/ sources, and none is given/],
    ["watch s3://bb --region eu_west", /^--region "eu_west" is not the name of a region/],
    ["watch http://a --min-age 5s", /^--min-age is for object stores, such as .*, and none is given/],
    ["watch http://a --max-removed-ratio 0.5", /^--max-removed-ratio is for object stores/],
    ["watch http://a --no-removal-guard", /^--no-removal-guard is for object stores/],
    ["watch http://a --compact", /^--compact is for object stores/],
    ["watch ./a --min-age 5", /^--min-age "5" is not a duration/],
    ["watch ./a --max-removed-ratio 2", /^--max-removed-ratio "2" is not a fraction/],
    ["watch ./a --no-removal-guard --max-removed-ratio 0.5", /^--max-removed-ratio sets the guard that/],
    ["watch ./a --raw-prefix", /^--raw-prefix is for s3:\/\/, gs:\/\/ and az:\/\/ sources, and none is given/],
    ["watch s3://bb//x", /^the prefix of "s3:\/\/bb\/\/x" begins with a slash, .* or add --raw-prefix/],
    [
      "watch ./a --max-body 1MiB",
      /^--max-body bounds the answers of HTTP sources and the frames of WebSockets, and none is given/
    ],
    ["watch ./a --key id", /^--key is for lists over HTTP, and "\.\/a" is none/],
    ["watch http://a ./b --items x", /^--items is for lists over HTTP, and "\.\/b" is none; .* NAME=PATH$/],
    ["watch http://a x=./b --next x=n", /^--next is for lists over HTTP, and "x" is none/],
    ["watch ./a --header 'K: v'", /^--header is for sources over HTTP, WebDAV and WebSocket, and none is given/],
    [
      "watch http://a x=./b --header 'x:K: v'",
      /^--header is for sources over HTTP, WebDAV and WebSocket, and "x" is none/
    ],
    ["watch ./a ./a", /^two sources are called ".\/a"/],
    ["watch ./a --approve ./a", /^--approve lets the removals pass that the checkpoint in --state DIR holds back; add/],
    ["watch ./a --state d --approve b", /^--approve is for the source "b", which is not given/],
    ["watch ./a --state d --approve ./a --reset ./a", /^--reset forgets what --approve \.\/a is to let pass/]
  ]
  for (const [args, says] of wrong) {
    it(`refuse: ${args}`, () => assert.match(refused(args), says))
  }
})

describe("object options", () => {
  const optionsOf = (args: string) =>
    ok(args).sources.flatMap((planned) => (plan.isObjects(planned) ? [planned.options] : []))

  it("have defaults, go to all stores that take them, or to the one that they name", () => {
    const none = {
      endpoint: undefined,
      region: undefined,
      rawPrefix: false,
      compact: false,
      minAgeMillis: undefined,
      maxRemovedRatio: undefined
    }
    assert.deepStrictEqual(optionsOf("watch ./a http://b"), [none])
    const all = { rawPrefix: true, compact: true, minAgeMillis: 5000, maxRemovedRatio: 0.5 }
    assert.deepStrictEqual(
      optionsOf(
        "watch s3://bb//c ./a https://x --endpoint http://s --region r --raw-prefix --compact --min-age 5s --max-removed-ratio 0.5"
      ),
      [
        { ...all, endpoint: "http://s", region: "r" },
        { ...all, endpoint: undefined, region: undefined }
      ]
    )
    assert.deepStrictEqual(
      optionsOf("watch x=s3://bb gs://cc --endpoint x=http://s --endpoint gs://cc=http://g --no-removal-guard"),
      [
        { ...none, endpoint: "http://s", maxRemovedRatio: false },
        { ...none, endpoint: "http://g", maxRemovedRatio: false }
      ]
    )
    assert.deepStrictEqual(ok("watch ./a --state d --approve ./a").approve, ["./a"])
  })
})

describe("credentials", () => {
  const headersOf = (args: string, environment?: Readonly<Record<string, string>>) =>
    ok(args, environment).sources.map(({ bearerToken, headers }): Readonly<Record<string, string>> => ({
      ...Object.fromEntries(Object.entries(headers).map(([name, value]) => [name, Redacted.value(value)])),
      ...(bearerToken === undefined ? {} : { bearer: Redacted.value(bearerToken) })
    }))

  it("go to all sources of one origin, or to the one that they name", () => {
    assert.deepStrictEqual(headersOf("watch http://a/1 b=http://a/2 --header 'X-Key: v: w' --header Host:h:80"), [
      { "X-Key": "v: w", Host: "h:80" },
      { "X-Key": "v: w", Host: "h:80" }
    ])
    assert.deepStrictEqual(
      headersOf(
        "watch http://a/1 b=http://c/2 --header 'b:X-Key: v' --header 'http://a/1:X: y' --bearer-token-env b=T",
        {
          T: " tok\n"
        }
      ),
      [{ X: "y" }, { "X-Key": "v", bearer: "tok" }]
    )
  })

  it("go to WebDAV servers, and to no other store", () => {
    const options = "--header 'X: y' --bearer-token-env T"
    assert.deepStrictEqual(headersOf(`watch dav://h/a ./b s3://bb ${options}`, { T: "t" }), [
      { X: "y", bearer: "t" },
      {},
      {}
    ])
    assert.match(
      refused("watch dav://h/a http://b --header 'K: sec-v'"),
      /^--header would go to sources of more than one origin/
    )
    for (const given of ["--bearer-token-env T", "--header 'authorization: sec-x'"]) {
      assert.match(refused(`watch dav://u@h/a ${given}`, { T: "sec-t" }), /^a dav:\/\/ address has a user/)
    }
    assert.match(refused("watch x=./a --bearer-token-env x=T", { T: "sec-t" }), /and "x" is none/)
  })

  const environment = { T: "sec-token", SPACED: "sec token", EMPTY: "" }
  const wrong: ReadonlyArray<readonly [args: string, says: RegExp]> = [
    [
      "watch http://a b=http://c --header 'K: sec-v'",
      /^--header would go to sources of more than one origin.*'NAME:K: …'/
    ],
    ["watch http://a b=https://a --header 'K: sec-v'", /more than one origin/],
    ["watch http://a b=http://c --bearer-token-env T", /^--bearer-token-env would go to .*NAME=T/],
    ["watch http://a --header 'no:Authorization: sec-v'", /^a --header is for the source "no", which is not given/],
    ["watch http://a --header sec-v", /^a --header is not of the form/],
    ["watch http://a --header 'K K: sec-v'", /^a --header is not of the form/],
    [
      "watch http://a --header 'Transfer-Encoding: chunked'",
      /^the --header Transfer-Encoding belongs to the connection/
    ],
    ["watch http://a --header 'K: sec-v\nX: y'", /^the --header K holds a line break/],
    ["watch http://a --header 'K: sec-v' --header 'k: sec-w'", /^the header k is given twice/],
    ["watch http://a --bearer-token-env NOPE", /names the environment variable NOPE, which is not set/],
    ["watch http://a --bearer-token-env EMPTY", /names the environment variable EMPTY, which is not set/],
    ["watch http://a --bearer-token-env SPACED", /^the token in SPACED holds blanks/],
    ["watch http://a --bearer-token-env no=T", /is for the source "no", which is not given/],
    ["watch http://a --bearer-token-env sec-v.x", /takes the name of an environment variable/],
    ["watch http://a --bearer-token-env T --bearer-token-env T", /^two bearer tokens/],
    ["watch http://a --bearer-token-env T --header 'authorization: sec-v'", /an Authorization header are given/]
  ]
  for (const [args, says] of wrong) {
    it(`are refused: ${args.replace("\n", "\\n")}`, () => {
      assert.match(refused(args, environment), says)
      assert.notMatch(refused(args, environment), /sec[- ]/)
    })
  }
})

describe("paths", () => {
  const pathsOf = (args: string) =>
    ok(args).sources.map((planned) => {
      if (!plan.isHttp(planned) || planned.paths === undefined) return []
      const { items, key, next } = planned.paths
      return [items.path, key.path, next?.path ?? "Link"]
    })

  it("make a list of each source, or of the one that they name", () => {
    assert.deepStrictEqual(pathsOf("watch http://a"), [[]])
    assert.deepStrictEqual(pathsOf("watch http://a --key id"), [["$", "$.id", "Link"]])
    assert.deepStrictEqual(pathsOf('watch http://a --items $.x --key $.metadata.uid --next ["a-b"]'), [
      ["$.x", "$.metadata.uid", '$["a-b"]']
    ])
    assert.deepStrictEqual(pathsOf("watch http://a b=http://b --key b=b.id --items b=$.l[?@.k=='v'] --next b=n"), [
      [],
      ["$.l[?@.k=='v']", "$.b.id", "$.n"]
    ])
    assert.deepStrictEqual(pathsOf("watch http://a --key $['id']"), pathsOf("watch http://a --key id"))
    assert.deepStrictEqual(pathsOf("watch http://a/x b=http://b --key http://a/x=k"), [["$", "$.k", "Link"], []])
  })

  const wrong: ReadonlyArray<readonly [args: string, says: RegExp]> = [
    ["watch http://a --items x", /^--items needs --key PATH/],
    ["watch http://a --next x", /^--next needs --key PATH/],
    ["watch http://a b=http://b --key b=id --items x", /^--items needs --key PATH/],
    ["watch http://a --key 'a b'", /^--key "a b" is no path; write one such as \$\.items/],
    ["watch http://a --key id --items 'x['", /^--items "x\[" is no path/],
    ["watch http://a --key 'a[*]'", /^--key "a\[\*\]" may lead to several places/],
    ["watch http://a --key '$..id'", /may lead to several places/],
    ["watch http://a --key id --next 'n[0,1]'", /may lead to several places/],
    ["watch http://a --key id --key uid", /^--key is given twice for one source/],
    ["watch http://a --key no=id", /^--key is for the source "no", which is not given/]
  ]
  for (const [args, says] of wrong) it(`are refused: ${args}`, () => assert.match(refused(args), says))

  it("find what is there, and tell an empty list from none", () => {
    const page = { data: { items: [{ id: 1, k: "a" }, { id: 2 }], none: [], "a b": { "": 7 } }, text: "x" }
    const find = (path: string) => Either.getOrThrow(jsonPath.place(path)).find(page)
    const findAll = (path: string) => Either.getOrThrow(jsonPath.places(path, (json) => json)).findAll(page)
    assert.deepStrictEqual(["data.items[0].id", "$['data']['items'][-1].id", "data['a b']['']"].map(find), [1, 2, 7])
    for (const nowhere of [
      "data.x.y",
      "data.items.id",
      "data[0]",
      "text.length",
      "data.constructor",
      "data.items[2]"
    ]) {
      assert.isUndefined(find(nowhere), nowhere)
    }
    assert.deepStrictEqual(findAll("data.items"), page.data.items)
    assert.deepStrictEqual(findAll("data.items[?@.k=='a']"), [{ id: 1, k: "a" }])
    assert.deepStrictEqual(
      [findAll("data.none"), findAll("data.none[*]"), findAll("data.items[?@.k=='z']")],
      [[], [], []]
    )
    assert.deepStrictEqual(
      [findAll("data.gone"), findAll("data.gone[*]"), findAll("text"), findAll("text[*]")],
      [undefined, undefined, undefined, undefined]
    )
  })
})

describe("help", () => {
  it("names every option on lines that fit", () => {
    const help = options.help()
    assert.isTrue(help.split("\n").every((line) => line.length <= 110))
    for (const name of [
      "--interval",
      "--exec-timeout",
      "--reset",
      "--approve",
      "--endpoint",
      "-h, --help",
      "--version"
    ])
      assert.include(help, name)
  })
})
