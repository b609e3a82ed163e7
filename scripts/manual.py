#!/usr/bin/env python3
"""The man page and the shells' completions, out of what `holdfast help` prints: so they cannot fall
behind it. The words around the help's are in this file.

    manual.py HOLDFAST FOLDER   writes holdfast.1, holdfast.bash, _holdfast, holdfast.fish there
"""

import pathlib
import re
import subprocess
import sys

# With these, what comes is a flag of the two words together.
TWO_WORDS = ("bench", "keys")


class Flag:
    def __init__(self, name, value, about):
        self.name, self.value, self.about = name, value, about
        # "a|b" in the place of a value's name, or a NAME whose text is a list.
        listed = re.fullmatch(r"(?:[a-z ]+: )?([a-z0-9_-]+(?:, [a-z0-9_-]+)+)", about)
        self.choices = value.split("|") if "|" in value else \
            listed.group(1).split(", ") if value == "NAME" and listed else []
        self.is_path = value in ("FILE", "PATH", "DIR")


class Help:
    """`commands`: (as written, about) in their order; `flags`: of each verb, a list of Flag."""

    def __init__(self, text):
        self.commands, self.flags, shared = [], {}, {}
        verb = None
        for line in text.splitlines()[1:]:
            if line.startswith("flags of "):
                verb = re.match(r"flags of ([a-z -]+?)(?:,| \(|:)", line).group(1)
                self.flags[verb] = []
                shared[verb] = re.findall(r"--[a-z-]+", re.sub(r"\(.*\)", "", line))
            elif verb is None:
                command, about = re.match(r" +(\S.*?)?(?:  +(.*))?$", line).groups()
                if line.startswith("   "):  # goes on with the line above
                    self.commands[-1][1] += " " + command
                else:
                    self.commands.append([command, about or ""])
            else:
                self.flags[verb].append(Flag(*re.match(
                    r"  (--[a-z0-9-]+)(?: (\S+))? +(\S.*)$", line).groups(default="")))
        serve = {flag.name: flag for flag in self.flags["serve"]}
        for verb, names in shared.items():
            self.flags[verb] += [serve[name] for name in names]
        for command, _ in self.commands:  # "keys new --tenant NAME": flags of the line itself
            words = command.split()
            verb = " ".join(words[:2] if words[0] in TWO_WORDS else words[:1])
            for name, value in re.findall(r"(--[a-z-]+)(?: ([A-Z]+))?", command):
                flags = self.flags.setdefault(verb, [])
                if name not in [flag.name for flag in flags]:
                    flags.append(Flag(name, value, ""))
            self.flags.setdefault(verb, [])

    def verbs(self):
        """{verb: what may come behind it, of bench and keys}, in their order."""
        verbs = {}
        for command, _ in self.commands:
            words = command.split()
            seconds = verbs.setdefault(words[0], [])
            if words[0] in TWO_WORDS:
                seconds.append(words[1])
        return verbs


# ---- The man page ----------------------------------------------------------------------------------

BEFORE = r""".SH NAME
holdfast \- serves a language model to many tenants
.SH SYNOPSIS
.B holdfast
.I VERB
.RI [ ARGUMENTS ]
.SH DESCRIPTION
One process that serves a language model over HTTP, by OpenAI's and Anthropic's interfaces, and over
gRPC. A request's answer does not depend on what else is served; tenants, told apart by their keys, see
nothing of one another; too much is refused and everyone else goes on.
.PP
Settings are in one YAML file, which
.B check\-config
checks whole; flags override it.
"""

AFTER = r""".SH SIGNALS
.TP
.BR SIGTERM ", " SIGINT
Leave: say so to balancers for
.BR server.drain_notice ,
then refuse what is new, finish what runs within
.BR server.drain_timeout ,
and end with status 0. A second one, 100 ms later or more, ends at once.
.TP
.B SIGHUP
Read the configuration file again. A file with faults changes nothing.
.SH FILES
.TP
.I /etc/holdfast/holdfast.yaml
The settings of the packaged service.
.TP
.I /var/lib/holdfast
Its models and its state.
.TP
.I /usr/share/doc/holdfast/holdfast.example.yaml
Every setting with its default.
.SH ENVIRONMENT
.TP
.B HOLDFAST_HOME
Where the default model lies, as
.I models/SmolLM2\-135M\-Instruct.Q4_1.gguf
below it, if no other is named. Without it,
.I holdfast
in the user's cache folder.
.TP
.BR TERM ", " NO_COLOR ", " LC_CTYPE
What
.B top
draws on: escape sequences but where TERM is dumb or not set, colours but where NO_COLOR is set, and the
characters that the locale has.
.SH EXIT STATUS
0: it went as asked. 1: it did not; the message says what to do. 2: the command line is wrong.
"""


def roff(text):
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return re.sub(r"^([.'])", r"\\&\1", text, flags=re.MULTILINE)


def man_page(help_, version):
    out = [f'.TH HOLDFAST 1 "" "{version}" "User Commands"', BEFORE.rstrip(), ".SH COMMANDS"]
    for command, about in help_.commands:
        out += [".TP", f".B {roff(command)}", roff(about)]
    out.append(".SH OPTIONS")
    out.append(roff("Of a flag's value either --flag VALUE or --flag=VALUE."))
    for verb, flags in help_.flags.items():
        if not flags or verb in ("check-config", "keys new"):
            continue
        out.append(f".SS {roff(verb)}")
        of_serve = [flag for flag in flags if verb != "serve" and flag in help_.flags["serve"]]
        for flag in flags:
            if flag not in of_serve:
                out += [".TP", f".BI {roff(flag.name)} \" {roff(flag.value)}\"" if flag.value
                        else f".B {roff(flag.name)}", roff(flag.about)]
        if of_serve:
            out += [".PP", "As of serve: " + roff(", ".join(flag.name for flag in of_serve)) + "."]
    return "\n".join(out) + "\n" + AFTER


# ---- Completions -----------------------------------------------------------------------------------


def bash(help_):
    verbs = help_.verbs()
    of_verb = "".join(f"    {verb.replace(' ', '-')}) flags='{' '.join(f.name for f in flags)}' ;;\n"
                      for verb, flags in help_.flags.items())
    seconds = "".join(f"      {verb}) COMPREPLY=($(compgen -W '{' '.join(words)}' -- \"$word\")); return ;;\n"
                      for verb, words in verbs.items() if words)
    values = {}
    for flags in help_.flags.values():
        for flag in flags:
            if flag.value:
                values[flag.name] = "-f" if flag.is_path else f"-W '{' '.join(flag.choices)}'"
    of_flag = "".join(f"    {name}) COMPREPLY=($(compgen {how} -- \"$word\")); return ;;\n"
                      for name, how in values.items())
    return f"""# bash completion for holdfast
# shellcheck shell=bash disable=SC2207
_holdfast() {{
  local word=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD - 1]}} verb=${{COMP_WORDS[1]}} flags=''
  COMPREPLY=()
  if ((COMP_CWORD == 1)); then
    COMPREPLY=($(compgen -W '{' '.join(verbs)}' -- "$word"))
    return
  fi
  if ((COMP_CWORD == 2)); then
    case $verb in
{seconds}    esac
  fi
  case $before in
{of_flag}  esac
  case $verb in
    {' | '.join(TWO_WORDS)}) verb=$verb-${{COMP_WORDS[2]}} ;;
  esac
  case $verb in
{of_verb}  esac
  if [[ $verb == check-config && $word != -* ]]; then
    COMPREPLY=($(compgen -f -- "$word"))
  else
    COMPREPLY=($(compgen -W "$flags" -- "$word"))
  fi
}}
complete -o filenames -F _holdfast holdfast
"""


def quoted(text, *specials):
    for special in specials:
        text = text.replace(special, "\\" + special)
    return text.replace("'", "'\\''")


def zsh(help_):
    about = {command.split()[0]: text for command, text in reversed(help_.commands)}
    listed = " ".join(f"'{verb}:{quoted(about[verb], ':')}'" for verb in help_.verbs())
    cases = ""
    for verb, flags in help_.flags.items():
        specs = []
        for flag in flags:
            spec = flag.name + ("=" if flag.value else "")
            spec += f"[{quoted(flag.about, '[', ']', ':')}]" if flag.about else ""
            if flag.value:
                how = "_files" if flag.is_path else f"({' '.join(flag.choices)})"
                spec += f":{quoted(flag.value, ':')}:{how}"
            specs.append(f"'{spec}'")
        if verb == "check-config":
            specs.append("'*:FILE:_files'")
        cases += f"    '{verb}') _arguments {' '.join(specs)} ;;\n"
    seconds = "".join(f"    {verb}) (( CURRENT == 3 )) && {{ compadd {' '.join(words)}; return }} ;;\n"
                      for verb, words in help_.verbs().items() if words)
    return f"""#compdef holdfast
_holdfast() {{
  local -a verbs
  verbs=({listed})
  if (( CURRENT == 2 )); then
    _describe verb verbs
    return
  fi
  local verb=$words[2]
  case $verb in
{seconds}  esac
  local taken=1
  case $verb in
    {'|'.join(TWO_WORDS)}) verb="$verb $words[3]"; taken=2 ;;
  esac
  shift $taken words
  (( CURRENT -= taken ))
  case $verb in
{cases}  esac
}}
_holdfast "$@"
"""


def fish(help_):
    out = ["# fish completion for holdfast", "complete -c holdfast -f"]
    about = {command.split()[0]: text for command, text in reversed(help_.commands)}
    for verb, words in help_.verbs().items():
        out.append(f"complete -c holdfast -n __fish_use_subcommand -a {verb} -d '{quoted(about[verb])}'")
        if words:
            out.append(f"complete -c holdfast -n '__fish_seen_subcommand_from {verb}; and not "
                       f"__fish_seen_subcommand_from {' '.join(words)}' -a '{' '.join(words)}'")
    for verb, flags in help_.flags.items():
        seen = "; and ".join(f"__fish_seen_subcommand_from {word}" for word in verb.split())
        for flag in flags:
            how = "" if not flag.value else \
                " -r -F" if flag.is_path else f" -x -a '{' '.join(flag.choices)}'"
            out.append(f"complete -c holdfast -n '{seen}' -l {flag.name[2:]}{how}"
                       f" -d '{quoted(flag.about)}'")
    out.append("complete -c holdfast -n '__fish_seen_subcommand_from check-config' -F")
    return "\n".join(out) + "\n"


def main(binary, folder):
    def said(verb):
        return subprocess.run([binary, verb], check=True, capture_output=True, text=True).stdout
    help_ = Help(said("help"))
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in (("holdfast.1", man_page(help_, said("version").strip())),
                       ("holdfast.bash", bash(help_)), ("_holdfast", zsh(help_)),
                       ("holdfast.fish", fish(help_))):
        (folder / name).write_text(text)


if __name__ == "__main__":
    main(*sys.argv[1:])
