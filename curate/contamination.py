"""Contamination: the report of the stage `contamination`, contamination.json, with both texts of each match.

Its shape; numbers are counts of rows unless they say otherwise:

    {
      "words": 13, "max_prompts": 10, "min_share": 0.0, "similarity": null, "drop": false,   the settings
      "rows": 2999,              rows of the pool that were looked at
      "matched": 7,              of these, rows that match an evaluation row
      "kept": 2,                 of these, rows that are in the run's selection
      "kinds": {"n-gram": 6, "embedding": 0, "both": 1},        `matched` by kind
      "evaluation": {            per source of evaluation rows (held out, `evaluate.sources`, or `target`), in pool order
        "dev": {"rows": 300, "found": 5, "pool_rows": 7}        its rows; those matched; pool rows that match one
      },
      "unjudged": 0,             evaluation rows that consist of common n-grams alone: nothing can match them
      "kept_away": {             per source of the pool, what `hold_out` took out before: same prompt or conversation
        "math": {"rows": 2000, "pool_rows": 40}                 rows read and not held out; taken out of these
      },
      "common": [                phrases of evaluation rows that many prompts share, at most 20: not counted as matches
        {"rows": 812, "source": "dev", "id": "dev:3", "words": "translate the following …"}     pool rows with it
      ],
      "matches": [               the strongest 1,000, the strongest first, one per row of the pool
        {
          "id": "chat:17", "uid": "…", "source": "chat", "position": 17,       the row of the pool
          "kept": true,                                         whether it is in the selection
          "evaluation_id": "dev:4", "evaluation_source": "dev", "evaluation_position": 1099511627780,
          "others": 0,                                          further evaluation rows that it matches
          "kind": "n-gram",                                     or "embedding", or "both"
          "ngrams": 21, "share": 0.84,                          n-grams of the evaluation row that it has; their share
          "similarity": null,                                   cosine of the two, null where not near or not compared
          "part": "prompt",                                     of the pool's row: prompt, response, both; null: no n-gram
          "words": "a train leaves …",                          the longest run of words that both have, normalised; null
          "prompt": "…", "response": "…",                       texts, each cut at 2,000 characters
          "evaluation_prompt": "…", "evaluation_response": "…"
        }
      ],
      "warnings": ["7 of 2,999 rows …"]                          sentences
    }

There is no contamination.json where a run has no such stage (`check_contamination: false`, or nothing to leak into).
"""
