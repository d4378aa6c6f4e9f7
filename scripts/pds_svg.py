"""Edit an SVG by text; the same as the command pds-svg.

python scripts/pds_svg.py --svg man.svg --src-prompt "a drawing of a man" --tgt-prompt "a drawing of a robot"
python scripts/pds_svg.py --repeat outputs/svg/man/config.json
"""

from pds_nerfstudio.vector.edit.cli import main

if __name__ == "__main__":
    main()
