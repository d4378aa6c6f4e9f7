"""Edit a picture by text; the same as the command pds-image.

python scripts/pds_image.py --image man.png --src-prompt "a photo of a man" --tgt-prompt "a photo of a robot"
python scripts/pds_image.py --repeat outputs/images/man/config.json
"""

from pds_nerfstudio.images.cli import main

if __name__ == "__main__":
    main()
