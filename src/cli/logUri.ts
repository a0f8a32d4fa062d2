/**
 * Reads the address of a change log: a table in a SQLite file or a PostgreSQL database, and what is known of it. What it says
 * about one never shows the user info or the query.
 */
import * as Either from "effect/Either"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as path from "node:path"

export type SslMode = "disable" | "require" | "verify-ca" | "verify-full"

/** Where the table is: a file as an absolute path, or a server. What is not given there is for the driver to find. */
export type Database =
  | { readonly kind: "sqlite"; readonly path: string }
  | {
      readonly kind: "postgres"
      readonly host: string
      readonly port: number
      readonly database: string
      readonly user: string | undefined
      readonly password: Redacted.Redacted | undefined
      readonly sslMode: SslMode | undefined
    }

/** A table, what its columns are called where that was said, and what its user vouches for. */
export interface Table {
  readonly name: string
  readonly columns: Readonly<Partial<Record<Column, string>>> | undefined
  readonly assume: ReadonlyArray<Assumption>
}

export interface Log {
  readonly database: Database
  readonly table: Table
  /** Only entries of these kinds are watched; none: all. */
  readonly kinds: ReadonlyArray<string> | undefined
}

type Column = "seq" | "entity" | "kind" | "data" | "at" | "xid"
type Assumption = "ordered" | "never-reused" | "dense"

/** What names the database, and never changes with how it is reached. */
export const addressOf = (database: Database): string =>
  database.kind === "sqlite"
    ? `sqlite:${database.path}`
    : `postgres://${database.host.toLowerCase()}:${database.port}/${database.database}`

/** What a checkpoint belongs to: the numbers of one column of one table of one database. */
export const identityOf = ({ database, table }: Log): string => {
  const seq = table.columns?.seq
  return `log:${addressOf(database)}#${table.name}${seq === undefined ? "" : `.${seq}`}`
}

interface Parsed {
  readonly publicUrl: string
  readonly log: Log
}

interface Family {
  readonly example: string
  readonly columns: ReadonlyArray<Column>
  readonly assumptions: ReadonlyArray<Assumption>
  readonly others: ReadonlyArray<string>
}

const families: Readonly<Record<Database["kind"], Family>> = {
  sqlite: {
    example: "sqlite:path.db?table=changes",
    columns: ["seq", "entity", "kind", "data", "at"],
    assumptions: ["never-reused", "dense"],
    others: ["table", "kinds", "assume"]
  },
  postgres: {
    example: "postgres://user@host:5432/database?table=changes",
    columns: ["seq", "entity", "kind", "data", "at", "xid"],
    assumptions: ["ordered", "dense"],
    others: ["table", "kinds", "assume", "sslmode"]
  }
}

const wrong = (sentence: string): Either.Either<never, string> => Either.left(sentence)

/** `sqlite:path.db?…`: the path is plain text, up to the first "?". */
export const sqlite = (source: string): Either.Either<Parsed, string> =>
  Either.gen(function* () {
    const { example } = families.sqlite
    const [, file = "", query] = /^sqlite:([^?]*)(?:\?(.*))?$/is.exec(source) ?? []
    if (file === "") return yield* wrong(`a sqlite: address needs the path of a file; write it as ${example}`)
    if (/^\/\/[^/]/.test(file)) {
      return yield* wrong(
        `a sqlite: address has no host; write it as ${example}, or with one slash as sqlite:/dir/path.db`
      )
    }
    if (file === ":memory:") {
      return yield* wrong("a database in memory cannot be seen from another process; write the path of a file")
    }
    if (file.includes("\0")) return yield* wrong(`the path of a sqlite: address is none; write it as ${example}`)
    const given = yield* readQuery("sqlite", query)
    return { publicUrl: `sqlite:${file}`, log: yield* logOf({ kind: "sqlite", path: path.resolve(file) }, given) }
  })

const decoded = (text: string): Option.Option<string> => Option.liftThrowable(decodeURIComponent)(text)

/** `postgres://user:password@host:port/database?…`. */
export const postgres = (source: string): Either.Either<Parsed, string> =>
  Either.gen(function* () {
    const { example } = families.postgres
    if (!/^postgres(ql)?:\/\/[^/?#]/i.test(source) || !URL.canParse(source)) {
      return yield* wrong(
        `a postgres:// address is not valid; write it as ${example}, with "@", ":", "/", "?" and "#" in a password as %40, %3A, %2F, %3F and %23`
      )
    }
    const url = new URL(source)
    const [user, password, database] = [url.username, url.password, url.pathname.slice(1)].map(decoded)
    if (url.hostname === "") return yield* wrong(`a postgres:// address needs a host; write it as ${example}`)
    if (url.hash !== "") {
      return yield* wrong(`a postgres:// address has no fragment ("#"); write it as ${example}`)
    }
    if (database === undefined || Option.isNone(database) || !/^[^/@:\0]{1,63}$/u.test(database.value)) {
      return yield* wrong(`a postgres:// address needs the name of one database; write it as ${example}`)
    }
    if (user === undefined || Option.isNone(user) || password === undefined || Option.isNone(password)) {
      return yield* wrong(`the user or password of a postgres:// address is not valid; write "%" in it as %25`)
    }
    const given = yield* readQuery("postgres", url.search.slice(1))
    const sslMode = yield* sslModeOf(given.get("sslmode"))
    const place: Database = {
      kind: "postgres",
      host: url.hostname.replace(/^\[(.*)\]$/, "$1"),
      port: url.port === "" ? 5432 : Number(url.port),
      database: database.value,
      user: user.value === "" ? undefined : user.value,
      password: password.value === "" ? undefined : Redacted.make(password.value),
      sslMode
    }
    return { publicUrl: `${url.protocol}//${url.host}${url.pathname}`, log: yield* logOf(place, given) }
  })

const readQuery = (
  kind: Database["kind"],
  query: string | undefined
): Either.Either<ReadonlyMap<string, string>, string> => {
  const { columns, example, others } = families[kind]
  const known: ReadonlyArray<string> = [...others, ...columns]
  const given = new Map<string, string>()
  for (const [name, value] of new URLSearchParams(query ?? "")) {
    if (!known.includes(name)) {
      return wrong(
        `the query of a ${kind}: address takes ${known.slice(0, -1).join(", ")} and ${known.at(-1)}, and nothing else; write it as ${example}`
      )
    }
    if (given.has(name)) return wrong(`${name}= is given twice in a ${kind}: address; keep one of them`)
    if (value === "") return wrong(`${name}= is empty in a ${kind}: address; leave it out, or say what it is`)
    given.set(name, value)
  }
  return Either.right(given)
}

/** What a table or column can be called; the library quotes names, so case counts where it does in the database. */
const isName = (name: string): boolean => /^[\p{L}_][\p{L}\p{N}_$]{0,62}$/u.test(name)

const isTable = (name: string): boolean => name.split(".").length <= 2 && name.split(".").every(isName)

const logOf = (database: Database, given: ReadonlyMap<string, string>): Either.Either<Log, string> =>
  Either.gen(function* () {
    const { assumptions, columns } = families[database.kind]
    const name = given.get("table") ?? "periscope_changes"
    if (!isTable(name)) {
      return yield* wrong("table= is not the name of a table; write one such as changes or audit.changes")
    }
    const named = columns.flatMap((column) => {
      const name = given.get(column)
      return name === undefined ? [] : [[column, name] as const]
    })
    const bad = named.find(([, name]) => !isName(name))
    if (bad !== undefined) {
      return yield* wrong(`${bad[0]}= is not the name of a column; write one such as ${bad[0]} or my_${bad[0]}`)
    }
    const assumed = given.get("assume")?.split(",") ?? []
    const assume = assumptions.filter((assumption) => assumed.includes(assumption))
    if (assume.length < assumed.length) {
      return yield* wrong(
        `assume= of a ${database.kind}: address takes ${assumptions.join(" and ")}, with a comma between them, each once; leave out what else it has`
      )
    }
    const kinds = given.get("kinds")?.split(",")
    if (kinds?.includes("") === true) {
      return yield* wrong("kinds= has an empty kind; write them with a comma between them, as in kinds=created,deleted")
    }
    return {
      database,
      table: { name, columns: named.length === 0 ? undefined : Object.fromEntries(named), assume },
      kinds
    }
  })

const sslModes: ReadonlyArray<SslMode> = ["disable", "require", "verify-ca", "verify-full"]

const sslModeOf = (text: string | undefined): Either.Either<SslMode | undefined, string> => {
  const found = sslModes.find((mode) => mode === text)
  return text === undefined || found !== undefined
    ? Either.right(found)
    : wrong(`sslmode= of a postgres: address is unknown; write ${sslModes.slice(0, -1).join(", ")} or verify-full`)
}
