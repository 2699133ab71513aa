// A delta by hand, from docs/spool.md: write in tmp/, rename into new/.
import { randomBytes } from "node:crypto";
import { mkdirSync, renameSync, writeFileSync } from "node:fs";

const spool = `${process.env.TALLYD_HOME}/state/spool/tallyd-demo`;
for (const part of ["tmp", "new"]) mkdirSync(`${spool}/${part}`, { recursive: true, mode: 0o700 });
const name = `${Date.now()}-${process.pid}-0-${randomBytes(8).toString("hex")}.json`;
const delta = {
  v: 1,
  product: "tallyd-demo",
  writer: { epoch: randomBytes(8).toString("hex"), seq: 0, lang: "node", version: "1" },
  envelope: { os: process.platform },
  day: new Date().toISOString().slice(0, 10),
  counts: [["tool_calls", { tool: "by_hand" }, { count: 2, error_count: 1 }]],
  events: [],
};
writeFileSync(`${spool}/tmp/${name}`, JSON.stringify(delta), { flag: "wx", mode: 0o600 });
renameSync(`${spool}/tmp/${name}`, `${spool}/new/${name}`);
