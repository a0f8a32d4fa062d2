/**
 * The repositories that a Tap server follows, and its answers over HTTP.
 */
import * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"

/** A repository as the server tells of it. */
export interface Repo {
  readonly did: string
  readonly handle: string
  readonly state:
    "pending" | "desynchronized" | "resyncing" | "active" | "takendown" | "suspended" | "deactivated" | "error"
  readonly rev: string
  readonly error: string
  readonly retries: number
}

/** Where the server is in what it reads. */
export interface Cursors {
  readonly firehose?: number | undefined
  readonly listRepos?: string | undefined
}

export class Repos {
  readonly all = new Map<string, Repo>()
  readonly documents = new Map<string, unknown>()
  private readonly records = new Map<string, Set<string>>()
  cursors: Cursors = { firehose: 0 }

  set(did: string, changes: Partial<Omit<Repo, "did">>): void {
    const fresh: Repo = { did, handle: "", state: "pending", rev: "", error: "", retries: 0 }
    this.all.set(did, { ...(this.all.get(did) ?? fresh), ...changes })
  }

  remove(did: string): void {
    this.all.delete(did)
    this.records.delete(did)
  }

  note(did: string, path: string, isThere: boolean): void {
    const paths = this.records.get(did) ?? new Set()
    this.records.set(did, paths)
    if (isThere) paths.add(path)
    else paths.delete(path)
  }

  recordCount(did?: string): number {
    if (did !== undefined) return this.records.get(did)?.size ?? 0
    return [...this.records.values()].reduce((sum, { size }) => sum + size, 0)
  }
}

export interface Asked {
  readonly method: string
  /** Without the query. */
  readonly path: string
  readonly contentType: string
  readonly body: string
}

export interface Answer {
  readonly status: number
  /** None: an empty body. */
  readonly json?: unknown
}

const problem = (status: number, message: string): Answer => ({ status, json: { message } })

const isDid = (text: string): boolean =>
  /^did:[a-z]+:[a-zA-Z0-9._:%-]*[a-zA-Z0-9._-]$/.test(text) && text.length <= 2048

const routes: ReadonlyArray<readonly [method: string, path: RegExp]> = [
  ["GET", /^\/(health|channel|stats\/(repo-count|record-count|outbox-buffer|resync-buffer|cursors))$/],
  ["GET", /^\/(resolve|info)\/[^/]+$/],
  ["POST", /^\/repos\/(add|remove)$/]
]

/** Answers everything but the channel. */
export const answer = (asked: Asked, repos: Repos, outboxSize: number): Answer => {
  const { method, path } = asked
  const known = routes.filter(([, pattern]) => pattern.test(path))
  if (known.length === 0) return problem(404, "Not Found")
  if (!known.some(([allowed]) => allowed === method)) return problem(405, "Method Not Allowed")
  if (path.startsWith("/repos/")) return edit(asked, repos)
  const [, name = "", did = ""] = path.split("/")
  switch (name === "stats" ? did : name) {
    case "health":
      return { status: 200, json: { status: "ok" } }
    case "repo-count":
      return { status: 200, json: { repo_count: repos.all.size } }
    case "record-count":
      return { status: 200, json: { record_count: repos.recordCount() } }
    case "outbox-buffer":
      return { status: 200, json: { outbox_buffer: outboxSize } }
    case "resync-buffer":
      return { status: 200, json: { resync_buffer: 0 } }
    case "cursors":
      return { status: 200, json: { firehose: repos.cursors.firehose, list_repos: repos.cursors.listRepos } }
    case "resolve": {
      if (!isDid(did)) return problem(400, "improperly formatted DID")
      const document = repos.documents.get(did)
      return document === undefined ? problem(404, "DID not found") : { status: 200, json: document }
    }
    case "info": {
      const repo = repos.all.get(did)
      if (repo === undefined) return problem(404, "repo not found")
      const { error, handle, retries, rev, state } = repo
      return { status: 200, json: { did, error, handle, records: repos.recordCount(did), retries, rev, state } }
    }
    default:
      return problem(400, "Bad Request")
  }
}

const edit = ({ body, contentType, path }: Asked, repos: Repos): Answer => {
  // an empty body passes whatever it is said to be
  if (body !== "" && !contentType.startsWith("application/json")) return problem(415, "Unsupported Media Type")
  const json = Option.liftThrowable(JSON.parse)(body === "" ? "{}" : body)
  if (Option.isNone(json)) return problem(400, "Syntax error: offset=1, error=invalid character")
  const given: unknown = Predicate.isRecord(json.value) ? (json.value["dids"] ?? []) : []
  if (!Array.isArray(given) || !given.every(Predicate.isString)) {
    return problem(400, "Unmarshal type error: expected=string, field=dids")
  }
  const dids: ReadonlyArray<string> = given
  if (path === "/repos/remove") {
    dids.forEach((did) => repos.remove(did))
    return { status: 200 }
  }
  // the database refuses to insert nothing
  if (dids.length === 0) return problem(500, "Internal Server Error")
  dids.filter((did) => !repos.all.has(did)).forEach((did) => repos.set(did, {}))
  return { status: 200 }
}
