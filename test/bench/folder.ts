/**
 * A folder that does not change, looked at again and again: through `Folder`'s `list`, by chokidar's polling mode, and by a walk with
 * `readdir` and `stat` as one writes it by hand. Each runs in a process of its own, one after the other.
 */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import type { Asked, Seen } from "./folderClient.js"
import { table } from "./measure.js"
import { start } from "./processes.js"

const names: Readonly<Record<string, string>> = {
  periscope: "Folder.list",
  byHand: "readdir + stat by hand",
  chokidar: "chokidar, polling"
}

const sizes = [
  { folders: 100, files: 100, rounds: 10 },
  { folders: 100, files: 1000, rounds: 3 }
]

/** A tree of empty files. */
const makeTree = (folders: number, files: number): string => {
  const root = mkdtempSync(join(tmpdir(), "periscope-bench-"))
  for (let n = 0; n < folders; n++) {
    const folder = join(root, `folder-${n}`)
    mkdirSync(folder)
    for (let k = 0; k < files; k++) writeFileSync(join(folder, `file-${k}.json`), "")
  }
  return root
}

export const folder = async (): Promise<void> => {
  for (const { files, folders, rounds } of sizes) {
    const root = makeTree(folders, files)
    const rows = []
    for (const [rival, name] of Object.entries(names)) {
      const child = start<Asked, Seen>("./folderClient.js", rival)
      const seen = await child.ask({ root, rounds })
      await child.stop()
      if (seen.files !== folders * files) throw new Error(`${name} saw ${seen.files} of ${folders * files} files`)
      const took = seen.wall > 0 ? `, ${seen.wall.toFixed(0)} ms long` : ""
      rows.push({ name, value: seen.cpu, note: `+${seen.memory.toFixed(0)} MiB${took}` })
    }
    rmSync(root, { recursive: true })
    table(
      `A folder of ${folders * files} files: processor time of one look, mean of ${rounds}`,
      "ms",
      rows,
      names["byHand"]!
    )
  }
}
