/**
 * Goal: what can be wrong with the address of a change log or with `periscope log …` is found before anything is opened, with one
 * sentence and no secret; and entries are printed without the loss of a digit.
 */
import { assert, describe, it } from "@effect/vitest"
import { Change } from "effect-periscope"
import type { ChangeLog } from "effect-periscope/log"
import * as Either from "effect/Either"
import * as Redacted from "effect/Redacted"
import * as path from "node:path"
import * as line from "../../src/cli/line.js"
import { lines } from "../../src/cli/logCommand.js"
import * as logPlan from "../../src/cli/logPlan.js"
import * as logUri from "../../src/cli/logUri.js"
import * as options from "../../src/cli/options.js"
import * as plan from "../../src/cli/plan.js"
import * as pretty from "../../src/cli/pretty.js"
import * as sourceUri from "../../src/cli/sourceUri.js"
import * as text from "../../src/cli/text.js"
import * as logTable from "../../src/log/logTable.js"

const target = (source: string): sourceUri.LogTarget => {
  const parsed = Either.getOrThrowWith(sourceUri.parse(source), (problem) => new Error(problem))
  return parsed.kind === "log" ? parsed : assert.fail(`${source} is no log`)
}
const problem = (source: string): string => Either.getOrElse(Either.flip(sourceUri.parse(source)), () => "accepted")

describe("the address of a log", () => {
  it("in SQLite is a path as plain text, with what is known of the table behind it", () => {
    const plain = target("sqlite:path.db?table=changes")
    assert.deepStrictEqual([plain.name, plain.isNamed], ["sqlite:path.db", false])
    assert.deepStrictEqual(plain.log, {
      database: { kind: "sqlite", path: path.resolve("path.db") },
      table: { name: "changes", columns: undefined, assume: [] },
      kinds: undefined
    })
    for (const [source, file, name] of [
      ["sqlite:/abs/a%20b c#d.db", "/abs/a%20b c#d.db", "sqlite:/abs/a%20b c#d.db"],
      ["SQLite:./x.db", path.resolve("x.db"), "sqlite:./x.db"],
      ["sqlite:///abs/x.db", "/abs/x.db", "sqlite:///abs/x.db"],
      ["l=sqlite:../u@h:x.db", path.resolve("../u@h:x.db"), "l"]
    ] as const) {
      const { log, name: found } = target(source)
      assert.deepStrictEqual([log.database, found], [{ kind: "sqlite", path: file }, name])
      assert.strictEqual(log.table.name, "periscope_changes")
    }
    assert.deepStrictEqual(
      target(
        "sqlite:a?table=audit.log&seq=id&data=payload&entity=who&kind=what&at=written&kinds=a,b&assume=dense,never-reused"
      ).log,
      {
        database: { kind: "sqlite", path: path.resolve("a") },
        table: {
          name: "audit.log",
          columns: { seq: "id", entity: "who", kind: "what", data: "payload", at: "written" },
          assume: ["never-reused", "dense"]
        },
        kinds: ["a", "b"]
      }
    )
  })

  it("in PostgreSQL is that of a database; user, password and query are not in its name", () => {
    const { log, name } = target("postgresql://me:se%63-pass@DB.example/app?table=changes&sslmode=verify-full&xid=tx")
    assert.strictEqual(name, "postgresql://DB.example/app")
    const { database } = log
    if (database.kind !== "postgres") return assert.fail("no server")
    const { password, ...rest } = database
    assert.strictEqual(password === undefined ? undefined : Redacted.value(password), "sec-pass")
    assert.deepStrictEqual(rest, {
      ...{ kind: "postgres", host: "DB.example", port: 5432, database: "app", user: "me" },
      sslMode: "verify-full"
    })
    assert.deepStrictEqual(log.table.columns, { xid: "tx" })
    assert.deepInclude(target("postgres://[::1]:5433/a%20b").log.database, {
      ...{ host: "::1", port: 5433, database: "a b", user: undefined, password: undefined, sslMode: undefined }
    })
  })

  it("tells one database, table and column of numbers from another, whoever asks and however it is written", () => {
    const identity = (source: string): string => logUri.identityOf(target(source).log)
    assert.strictEqual(identity("x=sqlite:./a.db?table=t"), `log:sqlite:${path.resolve("a.db")}#t`)
    assert.strictEqual(identity("sqlite:a.db?table=t&kinds=k&data=d"), identity("sqlite:./a.db?table=t"))
    assert.strictEqual(identity("postgres://u:p@H/d?table=t&sslmode=require"), "log:postgres://h:5432/d#t")
    assert.strictEqual(identity("postgresql://h:5432/d?table=t&seq=id"), "log:postgres://h:5432/d#t.id")
  })

  const wrong: ReadonlyArray<readonly [source: string, says: RegExp]> = [
    ["sqlite:", /^a sqlite: address needs the path of a file; write it as sqlite:path\.db\?table=changes$/],
    ["sqlite:?table=t", /needs the path of a file/],
    ["sqlite://host/a.db", /has no host; .* with one slash as sqlite:\/dir\/path\.db$/],
    ["sqlite::memory:", /^a database in memory cannot be seen from another process/],
    ["sqlite:a?sec-query", /^the query of a sqlite: address takes table, .* and at, and nothing else/],
    ["sqlite:a?password=sec-pass", /and nothing else/],
    ["sqlite:a?xid=x", /and nothing else/],
    ["sqlite:a?table=a&table=b", /^table= is given twice/],
    ["sqlite:a?table=", /^table= is empty/],
    ["sqlite:a?table=sec-a b", /^table= is not the name of a table; write one such as changes or audit\.changes$/],
    ["sqlite:a?table=a.b.c", /^table= is not the name/],
    ["sqlite:a?seq=sec-1", /^seq= is not the name of a column; write one such as seq or my_seq$/],
    ["sqlite:a?kinds=a,,b", /^kinds= has an empty kind/],
    ["sqlite:a?assume=ordered", /^assume= of a sqlite: address takes never-reused and dense/],
    ["sqlite:a?assume=dense,dense", /each once/],
    ["postgres:x", /^a postgres:\/\/ address is not valid; write it as postgres:\/\/user@host:5432\/database/],
    ["postgres://u:sec#pass@h/d", /"@", ":", "\/", "\?" and "#" in a password as %40, %3A, %2F, %3F and %23$/],
    ["postgres://u:sec/pass@h/d", /not valid/],
    ["postgres://u:12/sec-34@h/d", /needs the name of one database/],
    ["postgres://u:sec%zz@h/d", /the user or password of a postgres:\/\/ address is not valid; write "%" in it as %25/],
    ["postgres://h", /needs the name of one database/],
    ["postgres://u@/d", /not valid|needs a host/],
    ["postgres://h/d#sec-x", /has no fragment/],
    ["postgres://h/d?host=sec-h", /^the query of a postgres: address takes .*sslmode, .* xid, and nothing else/],
    ["postgres://h/d?sslmode=prefer", /^sslmode= .* is unknown; write disable, require, verify-ca or verify-full$/],
    ["postgres://h/d?assume=never-reused", /^assume= of a postgres: address takes ordered and dense/]
  ]
  for (const [source, says] of wrong) {
    it(`is refused: ${source}`, () => {
      assert.match(problem(source), says)
      assert.notMatch(problem(source), /sec-|sec%|accepted/)
    })
  }

  it("has the names of tables and columns that the library takes", () => {
    const names = [
      "a",
      "_a1$",
      "Ä",
      "a".repeat(63),
      "a".repeat(64),
      "1a",
      "a-b",
      "a b",
      'a"b',
      "a.b",
      "a.b.c",
      ".a",
      "a."
    ]
    const library = (make: () => unknown): boolean => Either.isRight(Either.try(make))
    for (const name of names) {
      const encoded = encodeURIComponent(name)
      const isTable = library(() => logTable.make({ table: name }))
      const isColumn = library(() => logTable.make({ columns: { seq: name } }))
      assert.strictEqual(problem(`sqlite:x?table=${encoded}`) === "accepted", isTable, name)
      assert.strictEqual(problem(`sqlite:x?seq=${encoded}`) === "accepted", isColumn, name)
    }
  })
})

const words = (args: string): ReadonlyArray<string> =>
  [...args.matchAll(/'([^']*)'|(\S+)/g)].map(([, quoted, word]) => quoted ?? word!)
const read = (args: string, hasInput = true) =>
  Either.flatMap(options.parse(words(args)), (given) => logPlan.make(given, hasInput))
const action = (args: string) => Either.getOrThrowWith(read(args), (problem) => new Error(problem)).action
const refused = (args: string, hasInput?: boolean): string =>
  Either.match(read(args, hasInput), { onLeft: (problem) => problem, onRight: () => "accepted" })

describe("periscope log", () => {
  it("reads what is to be done", () => {
    assert.deepStrictEqual(action("log append sqlite:a"), { _tag: "Append", entry: undefined })
    assert.deepStrictEqual(action("log append sqlite:a --data -"), { _tag: "Append", entry: undefined })
    const entry = { entity: "e", kind: "k" }
    const append = (data: string) => action(`log append sqlite:a --entity e --kind k ${data}`)
    assert.deepStrictEqual(append(""), { _tag: "Append", entry: { ...entry, data: undefined } })
    assert.deepStrictEqual(append("--data -"), { _tag: "Append", entry: { ...entry, data: "stdin" } })
    assert.deepStrictEqual(append("--data -5"), { _tag: "Append", entry: { ...entry, data: { json: -5 } } })
    assert.deepStrictEqual(append(`--data '{"a":[1.50,null]}'`), {
      ...{ _tag: "Append", entry: { ...entry, data: { json: { a: [1.5, null] } } } }
    })
    assert.deepStrictEqual(action("log head sqlite:a --log-level debug"), { _tag: "Head" })
    assert.deepStrictEqual(action("log prune sqlite:a --older-than 30d --keep 0 --even-unread"), {
      ...{ _tag: "Prune", olderThanMillis: 30 * 86_400_000, keep: 0, evenUnread: true }
    })
  })

  const wrong: ReadonlyArray<readonly [args: string, says: RegExp]> = [
    ["log", /^periscope log takes append, head or prune/],
    ["log tail sqlite:a", /^periscope log takes append, head or prune/],
    ["log head", /^periscope log head takes one log, such as sqlite:/],
    ["log head sqlite:a sqlite:b", /takes one log/],
    ["log head http://me:sec-pass@a", /is for change logs, and "http:\/\/a\/" is none/],
    ["log head sqlite:a?sec-x", /and nothing else/],
    ["log append sqlite:a?kinds=k", /^kinds= says which entries are watched; leave it out/],
    ["log head sqlite:a --entity e", /^--entity is for periscope log append; leave it out/],
    ["log head sqlite:a --interval 5s", /^--interval is for periscope watch and periscope once; leave it out/],
    ["log append sqlite:a --state d", /^--state is for periscope watch and periscope once/],
    ["log append sqlite:a --header 'K: sec-v'", /^--header is for periscope watch/],
    ["log append sqlite:a --entity e", /lacks --kind/],
    ["log append sqlite:a --kind k", /lacks --entity/],
    ["log append sqlite:a --data 1", /lacks --entity/],
    ["log append sqlite:a --entity '' --kind k", /^--entity is empty/],
    ["log append sqlite:a --entity e --kind k --data sec-{", /^--data is no JSON; write it so, and a text in double/],
    ["log append sqlite:a --entity e --kind k --data 9007199254740993", /^--data holds a number with more digits than/],
    ["log prune sqlite:a --older-than 7", /^--older-than "7" is not a duration; write one such as 30s, 5m, 1h or 7d/],
    ["log prune sqlite:a --keep -1", /^--keep "-1" is not a whole number/],
    ["log prune sqlite:a --keep 1.5", /^--keep "1\.5" is not a whole number/],
    ["log prune sqlite:a --even-unread", /^--even-unread alone would remove everything/]
  ]
  for (const [args, says] of wrong) {
    it(`refuses: ${args}`, () => {
      assert.match(refused(args), says)
      assert.notMatch(refused(args), /sec-/)
    })
  }

  it("wants lines where nobody pipes any", () => {
    assert.match(refused("log append sqlite:a", false), /^periscope log append needs --entity and --kind, or one \{/)
    assert.match(refused("log append sqlite:a --entity e --kind k", false), /accepted/)
  })

  it("reads one entry a line, or says which line is none", () => {
    assert.deepStrictEqual(
      lines('{"entity":"a","kind":"k"}\r\n\n{"kind":"k","entity":"b","data":null}\n'),
      Either.right([
        { entity: "a", kind: "k" },
        { entity: "b", kind: "k", data: null }
      ])
    )
    assert.deepStrictEqual(lines(" \n"), Either.right([]))
    const problems: ReadonlyArray<readonly [line: string, says: RegExp]> = [
      ["sec-{", /^line 2 is no JSON/],
      ["[1]", /^line 2 is no object/],
      ['{"entity":7,"kind":"k"}', /^line 2 lacks a text for entity or kind/],
      ['{"entity":"","kind":"k"}', /^line 2 lacks a text for entity or kind/],
      ['{"entity":"e","kind":"k","sec-x":1}', /^line 2 has a field of another name/],
      ['{"entity":"e","kind":"k","data":[1e999]}', /^line 2 holds a number with more digits/]
    ]
    for (const [line, says] of problems) {
      const problem = Either.getOrElse(Either.flip(lines(`{"entity":"a","kind":"k"}\n${line}`)), () => "accepted")
      assert.match(problem, says)
      assert.notMatch(problem, /sec-/)
    }
  })

  it("is told of in the help, as are its options", () => {
    const help = options.help()
    for (const text of [
      "log append <log>",
      "log head   <log>",
      "log prune  <log>",
      "--even-unread",
      "sqlite:path.db?table"
    ]) {
      assert.include(help, text)
    }
  })
})

describe("a line of an entry", () => {
  const found = (row: ChangeLog.Row): line.Found => ({
    ...{ id: "i", source: "s", observedAt: new Date(2026, 0, 2, 3, 4, 5).getTime(), redelivered: false },
    change: Change.added(String(row.cursor.seq), row)
  })
  const value = (row: ChangeLog.Row): string | undefined =>
    /"value":(.*),"observedAt"/.exec(line.encode(found(row)))?.[1]
  const row = (seq: bigint, data?: string): ChangeLog.Row => ({
    ...{ cursor: { seq }, entity: "e", kind: "k" },
    ...(data === undefined ? {} : { data })
  })

  it("has what the table has; numbers and texts are as they are stored", () => {
    assert.strictEqual(
      value({ ...row(7n, ' {"n": 12345678901234567890.10}\n'), atMillis: 0 }),
      '{"seq":7,"entity":"e","kind":"k","at":"1970-01-01T00:00:00.000Z","data":{"n":12345678901234567890.10}}'
    )
    assert.strictEqual(value({ cursor: { seq: -1n }, entity: "", kind: "" }), '{"seq":-1}')
    assert.strictEqual(value({ ...row(1n), atMillis: 9e15 }), '{"seq":1,"entity":"e","kind":"k"}')
    const data = (text: string) => /"data":(.*)}$/.exec(value(row(1n, text))!)?.[1]
    assert.deepStrictEqual(["no json", "", '"a"', "null", '{"a"', "1\n2"].map(data), [
      ...['"no json"', '""', '"a"', "null", '"{\\"a\\""', '"1\\n2"']
    ])
  })

  it("writes a number that JavaScript cannot hold as text", () => {
    assert.deepStrictEqual(
      [2n ** 53n - 1n, 2n ** 53n, 2n ** 53n + 1n, 2n ** 63n - 1n].map(
        (seq) => /"seq":([^,]*)/.exec(value(row(seq))!)?.[1]
      ),
      ["9007199254740991", '"9007199254740992"', '"9007199254740993"', '"9223372036854775807"']
    )
    assert.strictEqual(JSON.parse(line.encode(found(row(2n ** 53n + 1n)))).key, "9007199254740993")
  })

  it("is shown to people with what happened, cleaned and cut", () => {
    const look: pretty.Look = { paint: text.plain, columns: Infinity, nameColumns: 1, keyColumns: 0 }
    const shown = (data: string | undefined) => pretty.format(found(row(7n, data)), look)
    assert.strictEqual(shown(undefined), "03:04:05 + s  7  e k")
    assert.strictEqual(shown('{ "a": 1 }'), '03:04:05 + s  7  e k {"a":1}')
    assert.strictEqual(shown("a\n\u001b[31mb"), "03:04:05 + s  7  e k a �[31mb")
    assert.isBelow(shown("x".repeat(1000)).length, 300)
  })
})

describe("a log among other sources", () => {
  it("is planned beside them, and takes none of their credentials", () => {
    const given = Either.flatMap(
      options.parse(words("watch sqlite:a.db?table=t b=sqlite:a.db?table=u http://h --header 'K: v'")),
      (given) => plan.make(given, {})
    )
    const { sources } = Either.getOrThrowWith(given, (problem) => new Error(problem))
    assert.deepStrictEqual(
      sources.map((planned) => [planned.target.name, plan.isLog(planned), Object.keys(planned.headers)]),
      [
        ["sqlite:a.db", true, []],
        ["b", true, []],
        ["http://h/", false, ["K"]]
      ]
    )
  })
})
