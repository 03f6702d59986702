# SPDX-License-Identifier: BSD-2-Clause
#
# branches.awk: what `llvm-cov export` says, once for each program of the tests, to the ways that nothing took, one a line:
#
#	llvm-cov export … | ROOT=/the/tree/ awk -f test/branches.awk		file, tab, function, tab, way, tab, condition, tab, "taken", "not" or "never"
#
# way is "true" or "false": where the condition went; or "called", and the condition is "-": it is of the function as a whole. A condition that nobody
# came to is "never": it is the consequence of another's way that is here. So are those that are decided by the compiler, as `while (0)`, which clang 14
# counts as two branches that were never taken. Several builds of one source count as one, and so do several expansions of a macro in one place; of a
# macro's condition the text is that of the call; conditions within macros of others are theirs.

function open_source(file,   line, separator)
{
	if (file in length_of)
		return
	separator = RS
	RS = "\n"
	length_of[file] = 0
	while ((getline line <(root file)) > 0)
		text[file, ++length_of[file]] = line
	close(root file)
	RS = separator
}

# The source from here to there.
function between(file, line, column, last_line, last_column,   part)
{
	open_source(file)
	if (line == last_line)
		return substr(text[file, line], column, last_column - column)
	part = substr(text[file, line], column)
	while (++line < last_line)
		part = part " " text[file, line]
	return part " " substr(text[file, line], 1, last_column - 1)
}

# The arguments of a macro's call, when there are any here.
function in_parentheses(file, line, column,   part, depth, c)
{
	open_source(file)
	if (substr(text[file, line], column, 1) != "(")
		return ""
	while (line <= length_of[file]) {
		c = substr(text[file, line], column++, 1)
		if (c == "") {
			line++
			column = 1
			c = " "
		}
		part = part c
		depth += (c == "(") - (c == ")")
		if (depth == 0)
			break
	}
	return part
}

# The JSON of one function: what stands behind a key, up to a mark.
function value(key, mark,   at, rest)
{
	at = index($0, "\"" key "\":")
	rest = substr($0, at + length(key) + 3)
	return substr(rest, 1, index(rest, mark) - 1)
}

BEGIN {
	RS = "[{]\"branches\":"
	root = ENVIRON["ROOT"]
}

!/"filenames":/ || !/"name":/ || !/"regions":/ { next }

{
	n = split(value("filenames", "]"), file, ",")
	for (i = 1; i <= n; i++) {
		gsub(/[]["]/, "", file[i])
		if (index(file[i], root) == 1)
			file[i] = substr(file[i], length(root) + 1)
	}
	if (file[1] !~ /^lib\//)
		next
	name = value("name", "\",")
	sub(/^.*[":]/, "", name)
	where = substr(file[1], 5) "\t" name
	if (!(where in called))
		functions[++function_count] = where
	called[where] += value("count", ",")

	# Where macros are expanded, by the number of the expansion.
	split("", site)
	n = split(value("regions", "]]"), region, /\],?\[/)
	for (i = 1; i <= n; i++) {
		sub(/^\[+/, "", region[i])
		split(region[i], r, ",")
		if (r[8] == 1)
			site[r[7]] = region[i]
	}

	n = split(substr($0, 1, index($0, ",\"count\":")), branch, /\],?\[/)
	for (i = 1; i <= n; i++) {
		gsub(/[]["]/, "", branch[i])
		if (split(branch[i], b, ",") < 8)
			continue
		id = b[7]
		if (file[id + 1] !~ /^(lib|include)\//)
			continue
		place = b[1] ":" b[2]
		condition = between(file[id + 1], b[1], b[2], b[3], b[4])
		while (id in site) {
			split(site[id], r, ",")
			id = r[6]
			call = between(file[id + 1], r[1], r[2], r[3], r[4])
			call = call in_parentheses(file[id + 1], r[3], r[4])
			condition = call ~ /^(un)?likely/ ? call : call ": " condition
			place = r[1] ":" r[2] " " place
		}
		place = where SUBSEP place
		if (!(place in condition_at)) {
			gsub(/[ \t]+/, " ", condition)
			condition_at[place] = condition
			places[++place_count] = place
			function_at[place] = where
		}
		taken[place, "true"] += b[5]
		taken[place, "false"] += b[6]
	}
}

END {
	for (i = 1; i <= function_count; i++)
		printf "%s\tcalled\t-\t%s\n", functions[i], called[functions[i]] ? "taken" : "not"
	for (i = 1; i <= place_count; i++) {
		place = places[i]
		otherwise = taken[place, "true"] || taken[place, "false"] ? "not" : "never"
		for (way = 0; way < 2; way++)
			printf "%s\t%s\t%s\t%s\n", function_at[place], way ? "true" : "false", condition_at[place],
				taken[place, way ? "true" : "false"] ? "taken" : otherwise
	}
}
